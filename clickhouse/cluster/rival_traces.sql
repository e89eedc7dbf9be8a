-- rival_traces: traces of any shard that hold a record of a response that a recent trace of this shard holds.
-- Grain:     one row per trace
-- Source:    recent_traces, charges of this shard, and of all shards
-- Read by:   cluster/refresh_accounts.sql, which looks at them and leaves those of other shards alone
CREATE OR REPLACE VIEW rival_traces
AS
SELECT DISTINCT trace_id
FROM <database>.charges
WHERE response_key != 0
    AND span_class != 'tool'
    AND toDate(started_at) BETWEEN (SELECT first_day FROM recent_days) AND (SELECT last_day FROM recent_days)
    AND response_key GLOBAL IN (
        SELECT response_key
        FROM charges
        WHERE span_class != 'tool'
            AND trace_id IN (SELECT trace_id FROM recent_traces)
            AND toDate(started_at) BETWEEN (SELECT first_day FROM recent_days) AND (SELECT last_day FROM recent_days));
