-- rolling_days: the days of this pass, eight at most, the latest first.
-- Grain:     writes one row per UTC day, in place of those of the pass before
-- Target:    rolling_days
-- Source:    stale_days
-- Read by:   Store.roll, and a refreshable view on servers
INSERT INTO rolling_days
(
    utc_day,
    parts,
    first_part,
    version
)
SELECT
    utc_day,
    parts,
    first_part,
    toUnixTimestamp64Micro(now64(6)) AS version
FROM stale_days
ORDER BY utc_day DESC
LIMIT 8;
