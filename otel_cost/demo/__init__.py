"""What `otel-cost demo` shows: real agents, a provider that bills by script, and the reports."""
