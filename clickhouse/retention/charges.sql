-- charges: how long charges are kept, and the shape of their traces, without which they are not executions.
-- Grain:     whole days are dropped, once all of a day is too old
-- Read by:   otel-cost migrate --retain charges=DAYS
ALTER TABLE charges
    MODIFY SETTING ttl_only_drop_parts = 1, materialize_ttl_recalculate_only = 1;

ALTER TABLE charges
    MODIFY TTL toDateTime(started_at) + toIntervalDay(<days>);

ALTER TABLE trace_links
    MODIFY SETTING ttl_only_drop_parts = 1, materialize_ttl_recalculate_only = 1;

ALTER TABLE trace_links
    MODIFY TTL toDateTime(started_at) + toIntervalDay(<days>);
