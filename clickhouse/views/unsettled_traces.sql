-- unsettled_traces: which of some traces need the accounting pass. In the others every span counts as it came.
-- Parameters: trace_ids Array(String), first_day and last_day Date, between which their spans are
-- Grain:      one row per trace with more than one instrumentation, a response seen twice, a span of Logfire, a span that
--             was left out before, a model call or aggregate with spans below it, or a payer named by a span with others
--             below it
-- Source:     charges, trace_links
-- Read by:    queries/traces_to_account.sql, server/refresh_accounts.sql
CREATE OR REPLACE VIEW unsettled_traces
AS
SELECT trace_id
FROM charges
WHERE trace_id IN {trace_ids:Array(String)} AND toDate(started_at) BETWEEN {first_day:Date} AND {last_day:Date}
GROUP BY trace_id
HAVING max(NOT counted OR notEmpty(covered_tokens) OR startsWith(scope_name, 'logfire'))
    OR min(scope_name) != max(scope_name)
    OR max(response_key IN (
        SELECT response_key
        FROM charges
        WHERE trace_id IN {trace_ids:Array(String)}
            AND toDate(started_at) BETWEEN {first_day:Date} AND {last_day:Date}
            AND response_key != 0
            AND span_class != 'tool'
        GROUP BY response_key
        HAVING uniqExact(trace_id, span_id) > 1))
    OR max(span_class != 'tool' AND span_id IN (
        SELECT parent_span_id
        FROM trace_links
        WHERE trace_id IN {trace_ids:Array(String)} AND toDate(started_at) BETWEEN {first_day:Date} AND {last_day:Date}))
    OR trace_id IN (
        SELECT trace_id
        FROM trace_links
        WHERE trace_id IN {trace_ids:Array(String)}
            AND toDate(started_at) BETWEEN {first_day:Date} AND {last_day:Date}
            AND notEmpty(payer)
            AND span_id IN (
                SELECT parent_span_id
                FROM trace_links
                WHERE trace_id IN {trace_ids:Array(String)} AND toDate(started_at) BETWEEN {first_day:Date} AND {last_day:Date}));
