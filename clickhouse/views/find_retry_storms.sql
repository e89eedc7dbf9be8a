-- find_retry_storms: agents most of whose calls failed in an hour.
-- Grain:     one row per agent
-- Source:    spend_hours FINAL, spend_days FINAL, execution_days FINAL, anomaly_settings
-- Read by:   views/findings.sql
-- Told is the worst hour of those watched in which retry_min_calls of an agent's calls failed, which are retry_failed_ratio of
-- its calls in that hour, and twice what is usual over baseline_days. Calls belong to the hour they were made in, however long
-- their execution runs. Five executions or more that had a failure on that day must have run in that hour. Single executions
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
        'SELECT hour, sum(calls) AS model_calls, sum(failed_calls) AS failed FROM spend_hourly WHERE agent_name = ',
        '? GROUP BY hour ORDER BY failed DESC LIMIT 20')
        AS evidence,
    hourly.agent_name AS evidence_about,
    min(hourly.hour) AS first_seen,
    max(hourly.hour) AS last_seen
FROM
(
    SELECT
        storm.agent_name AS agent_name,
        storm.hour AS hour,
        any(storm.failed_calls) AS failed_calls,
        any(storm.all_calls) AS all_calls,
        any(storm.cost_usd) AS cost_usd,
        any(storm.failed_ratio) AS failed_ratio,
        any(usual.failed_ratio) AS usual_ratio
    FROM
    (
        SELECT
            agent_name,
            hour,
            sum(part.failed_calls) AS failed_calls,
            sum(part.calls + part.tool_calls) AS all_calls,
            sum(part.cost_usd) AS cost_usd,
            failed_calls / all_calls AS failed_ratio
        FROM spend_hours AS part FINAL
        WHERE utc_day >= toDate((SELECT at FROM anomaly_clock)) - (SELECT watch_days FROM anomaly_settings)
            AND utc_day <= toDate((SELECT at FROM anomaly_clock)) + 1
            AND hour >= (SELECT at FROM anomaly_clock) - toIntervalDay((SELECT watch_days FROM anomaly_settings))
        GROUP BY
            agent_name,
            hour
        HAVING failed_calls >= (SELECT retry_min_calls FROM anomaly_settings)
            AND failed_ratio >= (SELECT retry_failed_ratio FROM anomaly_settings)
    ) AS storm
    INNER JOIN
    (
        SELECT
            agent_name,
            sum(part.failed_calls) / sum(part.calls + part.tool_calls) AS failed_ratio
        FROM spend_days AS part FINAL
        WHERE utc_day >= toDate((SELECT at FROM anomaly_clock)) - (SELECT baseline_days FROM anomaly_settings)
            AND utc_day <= toDate((SELECT at FROM anomaly_clock)) + 1
        GROUP BY agent_name
    ) AS usual
        ON usual.agent_name = storm.agent_name
    INNER JOIN
    (
        SELECT
            arrayJoin(if(run.agent_name = '', arrayPushBack(agents, ''), agents)) AS agent_name,
            execution_id,
            charged_from,
            charged_until
        FROM execution_days AS run FINAL
        WHERE utc_day >= toDate((SELECT at FROM anomaly_clock)) - (SELECT watch_days FROM anomaly_settings)
            AND utc_day <= toDate((SELECT at FROM anomaly_clock)) + 1
            AND run.failed_calls > 0
    ) AS failing
        ON failing.agent_name = storm.agent_name
    WHERE storm.failed_ratio >= 2 * usual.failed_ratio
        AND failing.charged_from < storm.hour + INTERVAL 1 HOUR
        AND failing.charged_until >= storm.hour
    GROUP BY
        storm.agent_name,
        storm.hour
    HAVING uniqExact(failing.execution_id) >= 5
) AS hourly
GROUP BY hourly.agent_name;
