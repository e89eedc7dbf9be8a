-- top_executions: which agent runs cost most?
-- Parameters: since DateTime64(9, 'UTC') (executions that ended at or after it), limit UInt32
-- Result:     execution_id, trace_id, cost_usd (USD, NULL when nothing is priced), model_calls, tool_calls,
--             unpriced_calls (model calls without a price: cost_usd leaves them out), input_tokens, output_tokens,
--             started_at and ended_at (UTC), status, killed_reason (why the guard stopped it, else empty), organization, team,
--             user_id, feature, agent_name
-- Read by:    otel-cost top executions
SELECT
    execution_id,
    trace_id,
    cost_usd,
    model_calls,
    tool_calls,
    unpriced_calls,
    input_tokens,
    output_tokens,
    started_at,
    ended_at,
    status,
    killed_reason,
    organization,
    team,
    user_id,
    feature,
    agent_name
FROM executions
WHERE ended_at >= {since:DateTime64(9, 'UTC')}
ORDER BY
    cost_usd DESC NULLS LAST,
    unpriced_calls DESC,
    execution_id
LIMIT {limit:UInt32};
