-- volume_scores: how unusual each recent hour of a series is, for its hour of the week.
-- Grain:     one row per (subject, at) of the last watch_days that has enough history
-- Source:    views/volume_series.sql, anomaly_settings
-- Read by:   views/find_volume_spikes.sql, tests/anomalies/nab.py (which puts another series in place of volume_series)
-- Expected is the median of what was seen at the same hour of the week, one hour either way, in the 28 days before. With
-- less than 14 days of history it is the same hour of any day, and with less than 2 days nothing is said. How far such hours
-- are apart is their median absolute deviation, scaled to a standard deviation (1.4826). A dozen hours tell it badly, so the
-- spread is the median of it over all watched hours of the subject, for counts in proportion to the square root of what is
-- expected, and no less than that root (Poisson) or a tenth of what is expected. The score is the distance in spreads. What
-- was seen in the 12 hours before is not history: it may be the same incident.
CREATE OR REPLACE VIEW volume_scores
AS
SELECT
    subject,
    at,
    seen,
    expected,
    deviation,
    greatest(
        unit * quantileExactInclusive(0.5)(deviation / unit) OVER (PARTITION BY subject),
        0.1 * abs(expected),
        least_spread) AS spread,
    (seen - expected) / spread AS score,
    is_weekly
FROM
(
    SELECT
        subject,
        at,
        seen,
        is_weekly,
        arrayReduce('quantileExactInclusive(0.5)', history) AS expected,
        1.4826 * arrayReduce('quantileExactInclusive(0.5)', arrayMap(value -> abs(value - expected), history)) AS deviation,
        if(is_count, sqrt(greatest(expected, 1)), 1) AS unit,
        if(is_count, unit, 1e-9) AS least_spread
    FROM
    (
        SELECT
            point.subject AS subject,
            point.at AS at,
            any(point.value) AS seen,
            any(point.is_count) AS is_count,
            any(point.is_weekly) AS is_weekly,
            groupArray(past.value) AS history
        FROM
        (
            SELECT
                subject,
                at,
                value,
                is_count,
                at >= first_at + INTERVAL 14 DAY AS is_weekly,
                positiveModulo(toHour(at) + arrayJoin([-1, 0, 1]), 24) AS hour_of_day,
                (toDayOfWeek(at) - 1) * 24 + toHour(at) AS hour_of_week
            FROM volume_series
            WHERE is_watched AND at >= first_at + INTERVAL 2 DAY
        ) AS point
        INNER JOIN
        (
            SELECT
                subject,
                at,
                value,
                toHour(at) AS hour_of_day,
                (toDayOfWeek(at) - 1) * 24 + toHour(at) AS hour_of_week
            FROM volume_series
        ) AS past
            ON past.subject = point.subject AND past.hour_of_day = point.hour_of_day
        WHERE past.at < point.at - INTERVAL 12 HOUR
            AND past.at >= point.at - INTERVAL 28 DAY - INTERVAL 1 HOUR
            AND (NOT point.is_weekly OR positiveModulo(past.hour_of_week - point.hour_of_week + 1, 168) <= 2)
        GROUP BY
            subject,
            at
    )
    WHERE length(history) >= 3
);
