-- top_organizations: which organizations cost most?
-- Parameters: since DateTime64(9, 'UTC') (from the beginning of its hour), limit UInt32
-- Result:     organization, cost_usd (USD, NULL when nothing is priced), executions, model_calls, tool_calls, unpriced_calls
--             (model calls without a price: cost_usd leaves them out), input_tokens, output_tokens
-- Read by:    otel-cost top organizations
SELECT
    organization,
    sum(spend.cost_usd) AS cost_usd,
    sum(spend.executions) AS executions,
    sum(calls) AS model_calls,
    sum(spend.tool_calls) AS tool_calls,
    sumIf(calls, price_status = 'unpriced') AS unpriced_calls,
    sum(spend.input_tokens) AS input_tokens,
    sum(spend.output_tokens) AS output_tokens
FROM
(
    SELECT
        organization,
        cost_usd,
        calls,
        tool_calls,
        price_status,
        input_tokens,
        output_tokens,
        0 AS executions
    FROM spend_daily
    WHERE utc_day > toDate32({since:DateTime64(9, 'UTC')})
    UNION ALL
    SELECT
        organization,
        cost_usd,
        calls,
        tool_calls,
        price_status,
        input_tokens,
        output_tokens,
        0 AS executions
    FROM spend_hourly
    WHERE utc_day = toDate32({since:DateTime64(9, 'UTC')})
        AND hour + INTERVAL 1 HOUR > toDateTime(greatest({since:DateTime64(9, 'UTC')}, toDateTime64(0, 9, 'UTC')), 'UTC')
    UNION ALL
    SELECT
        organization AS organization,
        NULL AS cost_usd,
        0 AS calls,
        0 AS tool_calls,
        '' AS price_status,
        0 AS input_tokens,
        0 AS output_tokens,
        uniqExact(execution_key) AS executions
    FROM execution_days FINAL
    WHERE utc_day >= toDate32({since:DateTime64(9, 'UTC')}) AND charged_until >= {since:DateTime64(9, 'UTC')}
    GROUP BY organization
) AS spend
GROUP BY organization
ORDER BY
    cost_usd DESC NULLS LAST,
    unpriced_calls DESC,
    organization
LIMIT {limit:UInt32};
