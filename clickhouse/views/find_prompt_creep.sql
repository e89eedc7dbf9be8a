-- find_prompt_creep: agents whose executions begin with a much longer prompt than weeks ago.
-- Grain:     one row per agent
-- Source:    baselines FINAL, anomaly_settings
-- Read by:   views/findings.sql
-- Compared are medians of the first prompt of executions: of the last 7 days, and of the first 7 of the last baseline_days, or
-- since the agent was first seen, if that is two weeks. It must be creep_factor times as long and creep_min_tokens longer, and
-- more than four standard errors of both medians apart (from their quartiles).
CREATE OR REPLACE VIEW find_prompt_creep
AS
SELECT
    'prompt_creep' AS kind,
    concat('agent:', agent_name) AS subject,
    '' AS organization,
    '' AS team,
    '' AS feature,
    creep.agent_name AS agent_name,
    '' AS model,
    creep.late_usd * toUInt64(round(1000 * least(1, (late[2] - early[2]) / late_input))) / 1000 AS stake_usd,
    toNullable(toDecimal128(toUInt64(round(early[2])), 12)) AS expected,
    toDecimal128(toUInt64(round(late[2])), 12) AS seen,
    'tokens' AS unit,
    format(
        concat(
            'its executions began with a prompt of {} tokens at the median of the last 7 days, where it was {} in ',
            'the week from {}: {}% more'),
        toString(toUInt64(round(late[2]))),
        toString(toUInt64(round(early[2]))),
        toString(first_day),
        toString(toUInt64(round(100 * (late[2] / early[2] - 1))))) AS reason,
    concat(
        'SELECT toMonday(utc_day) AS week, sum(executions) AS begun, quantilesTDigestMerge(0.25, 0.5, 0.75, 0.9, ',
        '0.99)(prompt_quantiles)[2] AS median_first_prompt_tokens FROM baselines FINAL WHERE agent_name = ? GROUP BY ',
        'week ORDER BY week')
        AS evidence,
    creep.agent_name AS evidence_about,
    toDateTime64(last_day - 6, 3, 'UTC') AS first_seen,
    last_at AS last_seen
FROM
(
    SELECT
        base.agent_name AS agent_name,
        min(age.first_day) AS first_day,
        max(base.utc_day) AS last_day,
        max(base.hour) AS last_at,
        quantilesTDigestMergeIf(0.25, 0.5, 0.75, 0.9, 0.99)(prompt_quantiles, base.utc_day < age.first_day + 7) AS early,
        quantilesTDigestMergeIf(0.25, 0.5, 0.75, 0.9, 0.99)(prompt_quantiles, base.utc_day > age.today - 7) AS late,
        sumIf(base.executions, base.utc_day < age.first_day + 7) AS early_executions,
        sumIf(base.executions, base.utc_day > age.today - 7) AS late_executions,
        sumIf(base.cost_usd, base.utc_day > age.today - 7) AS late_usd,
        quantilesTDigestMergeIf(0.25, 0.5, 0.75, 0.9, 0.99)(input_quantiles, base.utc_day > age.today - 7)[2] AS late_input
    FROM baselines AS base FINAL
    INNER JOIN
    (
        SELECT
            agent_name,
            min(utc_day) AS first_day,
            toDate((SELECT at FROM anomaly_clock)) AS today
        FROM baselines FINAL
        WHERE utc_day >= toDate((SELECT at FROM anomaly_clock)) - (SELECT baseline_days FROM anomaly_settings)
            AND utc_day <= toDate((SELECT at FROM anomaly_clock)) + 1
        GROUP BY agent_name
        HAVING first_day <= today - 14
    ) AS age
        ON age.agent_name = base.agent_name
    WHERE base.utc_day >= toDate((SELECT at FROM anomaly_clock)) - (SELECT baseline_days FROM anomaly_settings)
        AND base.utc_day <= toDate((SELECT at FROM anomaly_clock)) + 1
        AND base.agent_name != ''
    GROUP BY base.agent_name
) AS creep
CROSS JOIN anomaly_settings AS setting
WHERE early_executions >= 20
    AND late_executions >= 20
    AND late[2] >= setting.creep_factor * early[2]
    AND late[2] - early[2] >= setting.creep_min_tokens
    AND late[2] - early[2] >= 4 * 1.25 / 1.35
        * sqrt(pow(early[3] - early[1], 2) / early_executions + pow(late[3] - late[1], 2) / late_executions);
