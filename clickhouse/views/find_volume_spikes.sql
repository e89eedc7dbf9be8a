-- find_volume_spikes: features that got far more executions in an hour than at that hour of the week.
-- Grain:     one row per feature, or agent where no feature is named
-- Source:    views/volume_scores.sql, baselines FINAL, anomaly_settings
-- Read by:   views/findings.sql
-- An hour counts with a score of volume_score, volume_factor times what was expected, and volume_min_executions at least. Told
-- is the one with the most beyond what was expected, and what all of them cost beyond it, at the feature's mean cost.
CREATE OR REPLACE VIEW find_volume_spikes
AS
SELECT
    'volume_spike' AS kind,
    spike.subject AS subject,
    '' AS organization,
    '' AS team,
    any(cost.feature) AS feature,
    any(cost.agent_name) AS agent_name,
    '' AS model,
    any(cost.cost_usd) * toUInt64(round(sum(spike.seen - spike.expected))) / any(cost.executions) AS stake_usd,
    toNullable(toDecimal128(round(argMax(spike.expected, spike.seen - spike.expected), 3), 12)) AS expected,
    toDecimal128(argMax(spike.seen, spike.seen - spike.expected), 12) AS seen,
    'executions' AS unit,
    format(
        '{} executions began in the hour from {} UTC, where {} are usual at this hour of the {}{}',
        toString(argMax(toUInt64(spike.seen), spike.seen - spike.expected)),
        toString(argMax(spike.at, spike.seen - spike.expected)),
        toString(round(argMax(spike.expected, spike.seen - spike.expected), 1)),
        if(argMax(spike.is_weekly, spike.seen - spike.expected), 'week', 'day'),
        if(count() > 1, format(', {} hours were like it', toString(count())), '')) AS reason,
    concat(
        'SELECT hour, sum(executions) AS begun FROM baselines FINAL WHERE ',
        if(any(cost.feature) != '', 'feature', 'agent_name'),
        ' = ? GROUP BY hour ORDER BY hour DESC LIMIT 720') AS evidence,
    if(any(cost.feature) != '', any(cost.feature), any(cost.agent_name)) AS evidence_about,
    min(spike.at) AS first_seen,
    max(spike.at) AS last_seen
FROM volume_scores AS spike
INNER JOIN
(
    SELECT
        if(base.feature != '', concat('feature:', base.feature), concat('agent:', base.agent_name)) AS subject,
        any(base.feature) AS feature,
        any(if(base.feature = '', base.agent_name, '')) AS agent_name,
        sum(base.executions) AS executions,
        sum(base.cost_usd) AS cost_usd
    FROM baselines AS base FINAL
    WHERE utc_day >= toDate((SELECT at FROM anomaly_clock)) - (SELECT watch_days FROM anomaly_settings)
        AND utc_day <= toDate((SELECT at FROM anomaly_clock)) + 1
    GROUP BY subject
) AS cost
    ON cost.subject = spike.subject
CROSS JOIN anomaly_settings AS setting
WHERE spike.score >= setting.volume_score
    AND spike.seen >= setting.volume_factor * spike.expected
    AND spike.seen >= setting.volume_min_executions
GROUP BY spike.subject;
