-- decisions: how long the decisions of the guard are kept.
-- Grain:     whole months are dropped, once all of a month is too old
-- Read by:   otel-cost migrate --retain decisions=DAYS
ALTER TABLE decisions
    MODIFY SETTING ttl_only_drop_parts = 1, materialize_ttl_recalculate_only = 1;

ALTER TABLE decisions
    MODIFY TTL toDateTime(decided_at) + toIntervalDay(<days>);
