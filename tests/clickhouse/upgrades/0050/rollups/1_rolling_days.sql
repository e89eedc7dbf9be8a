-- rolling_days: the days of this pass, eight at most, the latest first.
-- Grain:     writes one row per UTC day, in place of those of the pass before
-- Target:    rolling_days
-- Source:    stale_days, rolling_days and rollup_states
-- Read by:   Store.roll, and a refreshable view on servers
-- A pass that takes longer than a server waits before the next keeps its days and its version until they are noted as done, so
-- that every total of a day is made in one pass. One that is not done after ten minutes begins anew.
INSERT INTO rolling_days
(
    utc_day,
    parts,
    first_part,
    version
)
WITH
    toUnixTimestamp64Micro(now64(6)) AS began,
    (
        SELECT count()
        FROM rolling_days
        WHERE version > began - 600000000
            AND (utc_day, version) NOT IN (
                SELECT
                    utc_day,
                    version
                FROM rollup_states)
    ) > 0 AS is_at_work
SELECT
    utc_day,
    parts,
    first_part,
    version
FROM
(
    SELECT
        utc_day,
        parts,
        first_part,
        version
    FROM rolling_days
    WHERE is_at_work
    UNION ALL
    SELECT
        utc_day,
        parts,
        first_part,
        began AS version
    FROM
    (
        SELECT
            utc_day,
            parts,
            first_part
        FROM stale_days
        WHERE NOT is_at_work
        ORDER BY utc_day DESC
        LIMIT 8
    )
);
