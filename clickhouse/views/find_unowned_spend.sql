-- find_unowned_spend: agents that spend what nobody is named for: no organization, team, user or feature.
-- Grain:     one row per agent
-- Source:    spend_hours FINAL, anomaly_settings
-- Read by:   views/findings.sql
-- More than unowned_usd within watch_days.
CREATE OR REPLACE VIEW find_unowned_spend
AS
SELECT
    'unowned_spend' AS kind,
    concat('agent:', if(hourly.agent_name = '', 'unknown', hourly.agent_name)) AS subject,
    '' AS organization,
    '' AS team,
    '' AS feature,
    hourly.agent_name AS agent_name,
    any(hourly.model) AS model,
    sum(hourly.cost_usd) AS stake_usd,
    toNullable(any(setting.unowned_usd)) AS expected,
    assumeNotNull(sum(hourly.cost_usd)) AS seen,
    'USD' AS unit,
    format(
        concat(
            '${} in the last {} days belong to no organization, team, user or feature ({} model calls), see ',
            'docs/warehouse.md on who pays'),
        toString(round(assumeNotNull(sum(hourly.cost_usd)), 6)),
        toString(any(setting.watch_days)),
        toString(sum(hourly.calls))) AS reason,
    concat(
        'SELECT utc_day, service_name, model, count() AS calls, sum(cost_usd) AS usd FROM charges FINAL WHERE ',
        'counted AND agent_name = ? AND organization = '''' AND team = '''' AND user_id = '''' AND feature = '''' ',
        'GROUP BY toDate(started_at) AS utc_day, service_name, model ORDER BY utc_day DESC LIMIT 200')
        AS evidence,
    hourly.agent_name AS evidence_about,
    min(hourly.hour) AS first_seen,
    max(hourly.hour) AS last_seen
FROM spend_hours AS hourly FINAL
CROSS JOIN anomaly_settings AS setting
WHERE hourly.organization = ''
    AND hourly.team = ''
    AND hourly.user_id = ''
    AND hourly.feature = ''
    AND hourly.utc_day >= toDate((SELECT at FROM anomaly_clock)) - (SELECT watch_days FROM anomaly_settings)
    AND hourly.utc_day <= toDate((SELECT at FROM anomaly_clock)) + 1
GROUP BY hourly.agent_name
HAVING seen > any(setting.unowned_usd);
