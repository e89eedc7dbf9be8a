-- top_executions: which agent runs cost most?
-- Parameters: since DateTime64(9, 'UTC') (executions that ended at or after it), limit UInt32
-- Result:     execution_id, trace_id, cost_usd (USD, NULL when nothing is priced), model_calls, tool_calls,
--             unpriced_calls (model calls without a price: cost_usd leaves them out), input_tokens, output_tokens,
--             started_at and ended_at (UTC), status, killed_reason (why the guard stopped it, else empty), organization, team,
--             user_id, feature, agent_name
-- Source:     the query of views/executions.sql, which the runner puts in for the mark below
-- Bound:      the dearest are found by what they cost from the day before since on, and then shown whole
-- Read by:    otel-cost top executions
WITH
    dearest AS
    (
        SELECT execution_key
        FROM execution_days AS part FINAL
        WHERE utc_day >= toDate32({since:DateTime64(9, 'UTC')}) - 1
        GROUP BY execution_key
        HAVING max(spanned_until) >= {since:DateTime64(9, 'UTC')}
        ORDER BY
            sum(part.cost_usd) DESC NULLS LAST,
            sum(part.unpriced_calls) DESC,
            execution_key
        LIMIT {limit:UInt32}
    )
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
FROM
(
<executions of dearest>
)
ORDER BY
    cost_usd DESC NULLS LAST,
    unpriced_calls DESC,
    execution_id
LIMIT {limit:UInt32};
