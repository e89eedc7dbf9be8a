-- recent_traces: traces of this shard that got spans in the window of its pass, and those that share a response with a trace
--                of any shard that did.
-- Grain:     one row per trace. A response is looked for a day before and after the recent spans. Ids of tool calls say
--            nothing beyond their trace
-- Source:    accounting_window of this shard, trace_links and charges of this shard, and of all shards
-- Read by:   cluster/refresh_accounts.sql, cluster/rival_traces.sql
-- Takes the place of server/recent_traces.sql on a cluster. <database> is the database that shows all shards.
CREATE OR REPLACE VIEW recent_traces
AS
SELECT trace_id
FROM trace_links
WHERE inserted_at BETWEEN (SELECT since FROM accounting_window) AND (SELECT until FROM accounting_window)
UNION DISTINCT
SELECT trace_id
FROM charges
WHERE response_key != 0
    AND span_class != 'tool'
    AND toDate(started_at) BETWEEN (
            SELECT greatest(toDate(min(started_at)), toDate('1970-01-02')) - 1
            FROM <database>.trace_links
            WHERE inserted_at BETWEEN (SELECT since FROM accounting_window) AND (SELECT until FROM accounting_window))
        AND (
            SELECT least(toDate(max(started_at)), toDate('2149-06-05')) + 1
            FROM <database>.trace_links
            WHERE inserted_at BETWEEN (SELECT since FROM accounting_window) AND (SELECT until FROM accounting_window))
    AND response_key IN (
        SELECT response_key
        FROM <database>.charges
        WHERE response_key != 0 AND span_class != 'tool' AND trace_id GLOBAL IN (
            SELECT trace_id
            FROM <database>.trace_links
            WHERE inserted_at BETWEEN (SELECT since FROM accounting_window) AND (SELECT until FROM accounting_window)));
