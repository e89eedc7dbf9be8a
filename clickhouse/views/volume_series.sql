-- volume_series: how many executions of each feature began in each hour, hours without any included.
-- Grain:     one row per subject and hour since it was first seen, in the last watch_days and 29 days before
-- Source:    baselines FINAL
-- Read by:   views/volume_scores.sql
-- The subject is the feature, and where none is named the agent. An execution counts on its first day.
CREATE OR REPLACE VIEW volume_series
AS
SELECT
    whole.subject AS subject,
    whole.at AS at,
    toFloat64(hourly.executions) AS value,
    true AS is_count,
    whole.at >= (SELECT at FROM anomaly_clock) - toIntervalDay((SELECT watch_days FROM anomaly_settings)) AS is_watched,
    whole.first_at AS first_at
FROM
(
    SELECT
        subject,
        first_at,
        toDateTime(
            arrayJoin(range(
                toUInt64(toUnixTimestamp(first_at)),
                toUInt64(toUnixTimestamp((SELECT at FROM anomaly_clock))) + 1,
                3600)),
            'UTC') AS at
    FROM
    (
        SELECT
            if(feature != '', concat('feature:', feature), concat('agent:', agent_name)) AS subject,
            toStartOfHour(min(hour)) AS first_at
        FROM baselines FINAL
        WHERE utc_day >= toDate((SELECT at FROM anomaly_clock)) - 29 - (SELECT watch_days FROM anomaly_settings)
            AND utc_day <= toDate((SELECT at FROM anomaly_clock)) + 1
        GROUP BY subject
    )
) AS whole
LEFT JOIN
(
    SELECT
        if(feature != '', concat('feature:', feature), concat('agent:', agent_name)) AS subject,
        toStartOfHour(hour) AS at,
        sum(base.executions) AS executions
    FROM baselines AS base FINAL
    WHERE utc_day >= toDate((SELECT at FROM anomaly_clock)) - 29 - (SELECT watch_days FROM anomaly_settings)
        AND utc_day <= toDate((SELECT at FROM anomaly_clock)) + 1
    GROUP BY
        subject,
        at
) AS hourly
    ON hourly.subject = whole.subject AND hourly.at = whole.at;
