-- otel_traces: how long spans are kept as they came, and when each trace was. The runner puts in the number of days.
-- Grain:     whole days are dropped, once all of a day is too old
-- Read by:   otel-cost migrate --retain otel_traces=DAYS
ALTER TABLE otel_traces
    MODIFY SETTING ttl_only_drop_parts = 1, materialize_ttl_recalculate_only = 1;

ALTER TABLE otel_traces
    MODIFY TTL toDateTime(Timestamp) + toIntervalDay(<days>);

ALTER TABLE otel_traces_trace_id_ts
    MODIFY SETTING ttl_only_drop_parts = 1, materialize_ttl_recalculate_only = 1;

ALTER TABLE otel_traces_trace_id_ts
    MODIFY TTL Start + toIntervalDay(<days>);
