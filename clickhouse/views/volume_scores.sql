-- volume_scores: how unusual each recent hour of a series is, for its hour of the week.
-- Grain:     one row per (subject, at) of the last watch_days that has enough history
-- Source:    views/volume_series.sql, anomaly_settings
-- Read by:   views/find_volume_spikes.sql, tests/anomalies/nab.py (which puts another series in place of volume_series)
-- Expected is the median of what was seen at the same hour of the week, one hour either way, in the 28 days before, or that of
-- the very hour, if it is greater: a job that runs every night is in one hour of three. Of two in the middle the very hour takes
-- the lower, so that one incident is not usual the week after. With less than 14 days of history it is the same hour of any
-- day, and with less than 2 days nothing is said. How far apart the hours are that the greater median is of is their median
-- absolute deviation, scaled to a standard deviation (1.4826). A dozen hours tell it badly, so the spread is the median of it
-- over all watched hours of the subject, for counts in proportion to the square root of what is expected, and no less than
-- that root (Poisson) or a tenth of what is expected. The score is the distance in spreads. What was seen in the 12 hours
-- before is not history: it may be the same incident.
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
        arrayReduce('quantileExactInclusive(0.5)', history) AS around,
        arrayReduce('quantileExactLow', same_hour) AS exactly,
        notEmpty(same_hour) AND exactly > around AS is_exact,
        if(is_exact, exactly, around) AS expected,
        1.4826 * arrayReduce(
            'quantileExactInclusive(0.5)',
            arrayMap(value -> abs(value - expected), if(is_exact, same_hour, history))) AS deviation,
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
            groupArray(past.value) AS history,
            groupArrayIf(past.value, past.hour_of_day = point.own_hour_of_day) AS same_hour
        FROM
        (
            SELECT
                subject,
                at,
                value,
                is_count,
                at >= first_at + INTERVAL 14 DAY AS is_weekly,
                toHour(at) AS own_hour_of_day,
                positiveModulo(own_hour_of_day + arrayJoin([-1, 0, 1]), 24) AS hour_of_day,
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
