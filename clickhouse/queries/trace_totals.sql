-- trace_totals: what did all traces that a person means by an id cost together?
-- Parameters: id String, first_day and last_day Date (as find_traces tells them)
-- Result:     cost_usd (USD, NULL when nothing is priced), model_calls, tool_calls, unpriced_calls (model calls without a
--             price: cost_usd leaves them out), not_counted (charges left out as repeats), input_tokens, output_tokens,
--             started_at and ended_at (UTC), execution_ids
-- Source:     the steps of queries/find_traces.sql, which the runner puts in for the mark below
-- Read by:    otel-cost trace
WITH
    <traces of find_traces>
SELECT
    sumIf(charge.cost_usd, counted) AS cost_usd,
    countIf(kind = 'model' AND counted) AS model_calls,
    countIf(kind = 'tool' AND counted) AS tool_calls,
    countIf(kind = 'model' AND counted AND isNull(charge.cost_usd)) AS unpriced_calls,
    countIf(NOT counted) AS not_counted,
    sumIf(charge.input_tokens, counted) AS input_tokens,
    sumIf(charge.output_tokens, counted) AS output_tokens,
    min(charge.started_at) AS started_at,
    max(charge.ended_at) AS ended_at,
    arraySort(groupUniqArray(execution_id)) AS execution_ids
FROM charges AS charge FINAL
WHERE trace_id GLOBAL IN (SELECT trace_id FROM meant)
    AND toDate(charge.started_at) BETWEEN {first_day:Date} AND {last_day:Date};
