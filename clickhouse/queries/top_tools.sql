-- top_tools: which tools are called most, and what do they cost?
-- Parameters: since DateTime64(9, 'UTC') (from the beginning of its hour), limit UInt32
-- Result:     tool_name, cost_usd (USD, NULL when no price is known for the tool), tool_calls, unpriced_calls, errors,
--             duration_s (summed, seconds), executions
-- Read by:    otel-cost top tools
-- Nearly every execution is on one day, so rows are counted, and only those of longer ones are told apart. The column
-- duration_s of charges is written out: from a Distributed table an alias and a result of one name collide.
WITH
    several_days AS
    (
        SELECT execution_key
        FROM execution_days FINAL
        WHERE utc_day >= toDate32({since:DateTime64(9, 'UTC')}) AND charged_until >= {since:DateTime64(9, 'UTC')}
        GROUP BY execution_key
        HAVING count() > 1
    )
SELECT
    tool_name,
    sum(spend.cost_usd) AS cost_usd,
    sum(spend.tool_calls) AS tool_calls,
    sumIf(spend.tool_calls, price_status = 'unpriced') AS unpriced_calls,
    sum(failed_calls) AS errors,
    round(sum(spend.duration_s), 3) AS duration_s,
    sum(spend.executions) AS executions
FROM
(
    SELECT
        tool_name,
        price_status,
        cost_usd,
        tool_calls,
        failed_calls,
        duration_s,
        0 AS executions
    FROM tool_spend_daily
    WHERE utc_day > toDate32({since:DateTime64(9, 'UTC')})
    UNION ALL
    SELECT
        tool_name,
        price_status,
        cost_usd,
        tool_calls,
        failed_calls,
        duration_s,
        0 AS executions
    FROM spend_hourly
    WHERE kind = 'tool'
        AND utc_day = toDate32({since:DateTime64(9, 'UTC')})
        AND hour + INTERVAL 1 HOUR > toDateTime(greatest({since:DateTime64(9, 'UTC')}, toDateTime64(0, 9, 'UTC')), 'UTC')
    UNION ALL
    SELECT
        arrayJoin(tools) AS tool_name,
        '' AS price_status,
        NULL AS cost_usd,
        0 AS tool_calls,
        0 AS failed_calls,
        0 AS duration_s,
        countIf(NOT is_longer) + uniqExactIf(execution_key, is_longer) AS executions
    FROM
    (
        SELECT
            tools,
            execution_key,
            execution_key IN (SELECT execution_key FROM several_days) AS is_longer
        FROM execution_days FINAL
        WHERE utc_day >= toDate32({since:DateTime64(9, 'UTC')}) AND charged_until >= {since:DateTime64(9, 'UTC')}
    )
    GROUP BY tool_name
) AS spend
GROUP BY tool_name
ORDER BY
    cost_usd DESC NULLS LAST,
    tool_calls DESC,
    tool_name
LIMIT {limit:UInt32};
