-- top_agents: which agents cost most?
-- Parameters: since DateTime64(9, 'UTC') (charges that began at or after it), limit UInt32
-- Result:     agent_name, cost_usd (USD, NULL when nothing is priced), executions, model_calls, tool_calls, unpriced_calls
--             (model calls without a price: cost_usd leaves them out), input_tokens, output_tokens
-- Read by:    otel-cost top agents
SELECT
    agent_name,
    sum(cost_usd) AS cost_usd,
    uniqExact(execution_id) AS executions,
    countIf(kind = 'model') AS model_calls,
    countIf(kind = 'tool') AS tool_calls,
    countIf(kind = 'model' AND isNull(charge.cost_usd)) AS unpriced_calls,
    sum(input_tokens) AS input_tokens,
    sum(output_tokens) AS output_tokens
FROM charges AS charge FINAL
WHERE counted
    AND started_at >= {since:DateTime64(9, 'UTC')}
GROUP BY agent_name
ORDER BY
    cost_usd DESC NULLS LAST,
    unpriced_calls DESC,
    agent_name
LIMIT {limit:UInt32};
