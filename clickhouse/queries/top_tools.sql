-- top_tools: which tools are called most, and what do they cost?
-- Parameters: since DateTime64(9, 'UTC') (charges that began at or after it), limit UInt32
-- Result:     tool_name, cost_usd (USD, NULL when no price is known for the tool), tool_calls, unpriced_calls, errors,
--             duration_s (summed, seconds), executions
-- Read by:    otel-cost top tools
-- The column duration_s of charges is written out: from a Distributed table an alias and a result of one name collide.
SELECT
    tool_name,
    sum(cost_usd) AS cost_usd,
    count() AS tool_calls,
    countIf(isNull(charge.cost_usd)) AS unpriced_calls,
    countIf(status = 'Error') AS errors,
    round(sum(toUnixTimestamp64Nano(ended_at) / 1e9 - toUnixTimestamp64Nano(started_at) / 1e9), 3) AS duration_s,
    uniqExact(execution_id) AS executions
FROM charges AS charge FINAL
WHERE counted
    AND kind = 'tool'
    AND started_at >= {since:DateTime64(9, 'UTC')}
GROUP BY tool_name
ORDER BY
    cost_usd DESC NULLS LAST,
    tool_calls DESC,
    tool_name
LIMIT {limit:UInt32};
