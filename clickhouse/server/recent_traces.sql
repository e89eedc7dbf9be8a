-- recent_traces: traces that got spans in the window of the pass, and those that share a response with one of them.
-- Grain:     one row per trace. A response is looked for a day before and after the recent spans. Ids of tool calls say
--            nothing beyond their trace
-- Source:    accounting_window, trace_links, charges
-- Read by:   server/refresh_accounts.sql
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
            FROM trace_links
            WHERE inserted_at BETWEEN (SELECT since FROM accounting_window) AND (SELECT until FROM accounting_window))
        AND (
            SELECT least(toDate(max(started_at)), toDate('2149-06-05')) + 1
            FROM trace_links
            WHERE inserted_at BETWEEN (SELECT since FROM accounting_window) AND (SELECT until FROM accounting_window))
    AND response_key IN (
        SELECT response_key
        FROM charges
        WHERE span_class != 'tool' AND trace_id IN (
            SELECT trace_id
            FROM trace_links
            WHERE inserted_at BETWEEN (SELECT since FROM accounting_window) AND (SELECT until FROM accounting_window)));
