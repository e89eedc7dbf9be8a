-- find_retry_storms: agents most of whose calls failed in an hour.
-- Grain:     one row per agent
-- Source:    baselines FINAL, anomaly_settings
-- Read by:   views/findings.sql
-- Told is the worst hour of those watched in which retry_min_calls, of five executions or more, failed. They must be
-- retry_failed_ratio of the agent's calls in that hour, and twice what is usual over baseline_days. Single executions
-- are in views/find_executions.sql.
CREATE OR REPLACE VIEW find_retry_storms
AS
SELECT
    'retry_storm' AS kind,
    concat('agent:', hourly.agent_name) AS subject,
    '' AS organization,
    '' AS team,
    '' AS feature,
    hourly.agent_name AS agent_name,
    '' AS model,
    argMax(hourly.cost_usd, hourly.failed_calls) AS stake_usd,
    toNullable(toDecimal128(round(max(usual_ratio), 6), 12)) AS expected,
    toDecimal128(round(argMax(hourly.failed_ratio, hourly.failed_calls), 6), 12) AS seen,
    'ratio' AS unit,
    format(
        '{} of {} calls failed in the hour from {} UTC, where {}% do usually',
        toString(argMax(hourly.failed_calls, hourly.failed_calls)),
        toString(argMax(hourly.all_calls, hourly.failed_calls)),
        toString(argMax(hourly.hour, hourly.failed_calls)),
        toString(round(100 * max(usual_ratio), 1))) AS reason,
    concat(
        'SELECT hour, sum(calls) AS model_calls, sum(failed_calls) AS failed FROM baselines FINAL WHERE agent_name = ',
        '? GROUP BY hour ORDER BY failed DESC LIMIT 20')
        AS evidence,
    hourly.agent_name AS evidence_about,
    min(hourly.hour) AS first_seen,
    max(hourly.hour) AS last_seen
FROM
(
    SELECT
        agent_name,
        hour,
        sum(base.failed_calls) AS failed_calls,
        sum(base.failing_executions) AS failing_executions,
        sum(base.calls + base.tool_calls) AS all_calls,
        sum(base.cost_usd) AS cost_usd,
        failed_calls / all_calls AS failed_ratio,
        sum(failed_calls) OVER (PARTITION BY agent_name) / sum(all_calls) OVER (PARTITION BY agent_name) AS usual_ratio
    FROM baselines AS base FINAL
    WHERE utc_day >= toDate((SELECT at FROM anomaly_clock)) - (SELECT baseline_days FROM anomaly_settings)
    GROUP BY
        agent_name,
        hour
    HAVING all_calls > 0
) AS hourly
CROSS JOIN anomaly_settings AS setting
WHERE hourly.hour >= (SELECT at FROM anomaly_clock) - toIntervalDay(setting.watch_days)
    AND hourly.failed_calls >= setting.retry_min_calls
    AND hourly.failing_executions >= 5
    AND hourly.failed_ratio >= setting.retry_failed_ratio
    AND hourly.failed_ratio >= 2 * hourly.usual_ratio
GROUP BY hourly.agent_name;
