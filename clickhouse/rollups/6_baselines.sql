-- baselines: how many executions of each agent and feature began in each hour of a pass's days, and of what size.
-- Grain:     writes every row of these days anew
-- Target:    baselines
-- Source:    execution_days FINAL, decisions FINAL, time_zones_dictionary, dropped_days
-- Read by:   Store.roll, and a refreshable view on servers
-- Keys that are there and have no execution any more are written as deleted. A day after whose charges were dropped keeps
-- what it has. An execution that has charges on two days in a row is counted on the first, where it began, and all else of it
-- is in the hour in which its charges of the day begin.
INSERT INTO baselines
(
    utc_day,
    hour,
    organization,
    agent_name,
    feature,
    hour_of_week,
    executions,
    killed_executions,
    error_executions,
    failing_executions,
    calls,
    tool_calls,
    failed_calls,
    cost_usd,
    cost_quantiles,
    calls_quantiles,
    input_quantiles,
    prompt_quantiles,
    duration_quantiles,
    version,
    is_deleted
)
WITH
    days AS
    (
        SELECT DISTINCT arrayJoin([rolling.utc_day, rolling.utc_day + 1]) AS utc_day
        FROM rolling_days AS rolling
        WHERE utc_day NOT IN (SELECT dropped_days.utc_day FROM dropped_days)
    )
SELECT
    utc_day,
    hour,
    organization,
    agent_name,
    feature,
    hour_of_week,
    executions,
    killed_executions,
    error_executions,
    failing_executions,
    calls,
    tool_calls,
    failed_calls,
    cost_usd,
    cost_quantiles,
    calls_quantiles,
    input_quantiles,
    prompt_quantiles,
    duration_quantiles,
    version,
    is_deleted
FROM
(
    SELECT
        utc_day,
        hour,
        organization,
        agent_name,
        feature,
        any(run.hour_of_week) AS hour_of_week,
        countIf(is_first_day) AS executions,
        countIf(is_killed) AS killed_executions,
        countIf(NOT is_killed AND run.status = 'Error') AS error_executions,
        countIf(run.failed_calls > 0) AS failing_executions,
        sum(run.model_calls) AS calls,
        sum(run.tool_calls) AS tool_calls,
        sum(run.failed_calls) AS failed_calls,
        sum(run.cost_usd) AS cost_usd,
        quantilesTDigestStateIf(0.25, 0.5, 0.75, 0.9, 0.99)(
            toFloat64(ifNull(run.cost_usd, 0)),
            isNotNull(run.cost_usd)) AS cost_quantiles,
        quantilesTDigestState(0.25, 0.5, 0.75, 0.9, 0.99)(run.model_calls) AS calls_quantiles,
        quantilesTDigestState(0.25, 0.5, 0.75, 0.9, 0.99)(run.input_tokens) AS input_quantiles,
        quantilesTDigestStateIf(0.25, 0.5, 0.75, 0.9, 0.99)(
            run.first_input_tokens,
            run.first_input_tokens > 0) AS prompt_quantiles,
        quantilesTDigestState(0.25, 0.5, 0.75, 0.9, 0.99)(run.duration_s) AS duration_quantiles,
        (SELECT max(version) FROM rolling_days) AS version,
        0 AS is_deleted
    FROM
    (
        SELECT
            utc_day,
            toDateTime(charged_from, 'UTC') AS at,
            ifNull(
                dictGetOrNull('time_zones_dictionary', 'offset_s', organization, at),
                dictGetOrDefault('time_zones_dictionary', 'offset_s', '*', at, 0)) AS offset_s,
            toStartOfHour(at + offset_s) - offset_s AS hour,
            toUInt8((toDayOfWeek(at + offset_s) - 1) * 24 + toHour(at + offset_s)) AS hour_of_week,
            organization,
            agent_name,
            feature,
            execution_id IN (
                SELECT execution_id
                FROM decisions FINAL
                WHERE decision = 'deny' AND mode = 'enforce'
                    AND toDate(decided_at) IN (SELECT arrayJoin([utc_day, utc_day + 1]) FROM days)) AS is_killed,
            (utc_day, execution_key) NOT IN (
                SELECT
                    utc_day + 1,
                    execution_key
                FROM execution_days FINAL
                WHERE utc_day IN (SELECT utc_day - 1 FROM days)) AS is_first_day,
            status,
            model_calls,
            tool_calls,
            failed_calls,
            input_tokens,
            first_input_tokens,
            cost_usd,
            toUnixTimestamp64Nano(spanned_until) / 1e9 - toUnixTimestamp64Nano(spanned_from) / 1e9 AS duration_s
        FROM execution_days FINAL
        WHERE utc_day IN (SELECT utc_day FROM days)
    ) AS run
    GROUP BY
        utc_day,
        hour,
        organization,
        agent_name,
        feature
    UNION ALL
    SELECT * REPLACE ((SELECT max(version) FROM rolling_days) AS version, 1 AS is_deleted)
    FROM baselines FINAL
    WHERE utc_day IN (SELECT utc_day FROM days)
)
ORDER BY is_deleted
LIMIT 1 BY
    utc_day,
    hour,
    organization,
    agent_name,
    feature;
