"""What `otel-cost up` runs: OTLP in, batched into the store, and a read endpoint for ClickHouse clients."""
