-- reconcile: are the totals of each day what the charges of that day add up to?
-- Parameters: since DateTime64(9, 'UTC') (from the begin of its day)
-- Result:     utc_day, table_name, charges_usd (USD, of charges FINAL, where counted), rollup_usd, difference_usd, charges_calls,
--             rollup_calls (model and tool calls). Only what differs has a row, and days whose charges were dropped have none
-- Read by:    otel-cost doctor
WITH
    charged AS
    (
        SELECT
            toDate(started_at) AS utc_day,
            sum(charge.cost_usd) AS cost_usd,
            count() AS calls,
            sumIf(charge.cost_usd, kind = 'tool') AS tool_cost_usd,
            countIf(kind = 'tool') AS tool_calls
        FROM charges AS charge FINAL
        WHERE counted AND toDate(started_at) >= toDate32({since:DateTime64(9, 'UTC')})
        GROUP BY utc_day
    ),
    rolled AS
    (
        SELECT
            utc_day,
            'spend_hourly' AS table_name,
            sum(spend.cost_usd) AS cost_usd,
            sum(calls + tool_calls) AS calls
        FROM spend_hourly AS spend
        WHERE utc_day >= toDate32({since:DateTime64(9, 'UTC')})
        GROUP BY utc_day
        UNION ALL
        SELECT
            utc_day,
            'spend_daily' AS table_name,
            sum(spend.cost_usd) AS cost_usd,
            sum(calls + tool_calls) AS calls
        FROM spend_daily AS spend
        WHERE utc_day >= toDate32({since:DateTime64(9, 'UTC')})
        GROUP BY utc_day
        UNION ALL
        SELECT
            utc_day,
            'user_spend_daily' AS table_name,
            sum(spend.cost_usd) AS cost_usd,
            sum(calls + tool_calls) AS calls
        FROM user_spend_daily AS spend
        WHERE utc_day >= toDate32({since:DateTime64(9, 'UTC')})
        GROUP BY utc_day
        UNION ALL
        SELECT
            utc_day,
            'tool_spend_daily' AS table_name,
            sum(spend.cost_usd) AS cost_usd,
            sum(spend.tool_calls) AS calls
        FROM tool_spend_daily AS spend
        WHERE utc_day >= toDate32({since:DateTime64(9, 'UTC')})
        GROUP BY utc_day
        UNION ALL
        SELECT
            utc_day,
            'executions' AS table_name,
            sum(part.cost_usd) AS cost_usd,
            sum(model_calls + tool_calls) AS calls
        FROM execution_days AS part FINAL
        WHERE utc_day >= toDate32({since:DateTime64(9, 'UTC')})
        GROUP BY utc_day
    )
SELECT
    charged.utc_day AS utc_day,
    target.table_name AS table_name,
    if(target.table_name = 'tool_spend_daily', charged.tool_cost_usd, charged.cost_usd) AS charges_usd,
    rolled.cost_usd AS rollup_usd,
    ifNull(rollup_usd, 0) - ifNull(charges_usd, 0) AS difference_usd,
    if(target.table_name = 'tool_spend_daily', charged.tool_calls, charged.calls) AS charges_calls,
    rolled.calls AS rollup_calls
FROM charged
CROSS JOIN
(
    SELECT arrayJoin(['spend_hourly', 'spend_daily', 'user_spend_daily', 'tool_spend_daily', 'executions']) AS table_name
) AS target
LEFT JOIN rolled ON rolled.utc_day = charged.utc_day AND rolled.table_name = target.table_name
WHERE difference_usd != 0 OR rollup_calls != charges_calls OR isNull(rollup_usd) != isNull(charges_usd)
ORDER BY
    utc_day,
    table_name;
