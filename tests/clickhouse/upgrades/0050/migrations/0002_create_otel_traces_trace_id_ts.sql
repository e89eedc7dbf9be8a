-- otel_traces_trace_id_ts: when a trace began and ended, so that one trace is found without reading every day.
-- Grain:     one row per trace and week after merges, so readers take min(Start) and max(End)
-- Engine:    AggregatingMergeTree, as the Collector's exporter makes it
-- Order key: TraceId, because it is only ever asked about one trace
-- Retention: none set here
-- Source:    views/otel_traces_trace_id_ts_mv.sql
-- Read by:   queries/trace_spans.sql, Grafana
CREATE TABLE IF NOT EXISTS otel_traces_trace_id_ts
(
    TraceId  String CODEC(ZSTD(1)),
    Start    SimpleAggregateFunction(min, DateTime) CODEC(ZSTD(1)),
    End      SimpleAggregateFunction(max, DateTime) CODEC(ZSTD(1))
)
ENGINE = AggregatingMergeTree
PARTITION BY toStartOfWeek(Start)
ORDER BY TraceId
SETTINGS index_granularity = 8192, ttl_only_drop_parts = 1;
