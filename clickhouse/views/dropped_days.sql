-- dropped_days: days that were rolled up and have lost charges since, as retention takes them.
-- Grain:     one row per UTC day
-- Source:    rollup_states, system.parts of charges
-- Read by:   views/stale_days.sql, rollups/5_execution_days.sql, rollups/6_baselines.sql, rollups.forget. Each node has its own
-- Such a day has fewer parts than were rolled up, or none, or does not begin where it began. Its totals cannot be made again,
-- and stay as they were.
CREATE OR REPLACE VIEW dropped_days
AS
SELECT rolled.utc_day AS utc_day
FROM
(
    SELECT
        utc_day,
        argMax(parts, version) AS parts,
        argMax(first_part, version) AS first_part
    FROM rollup_states
    GROUP BY utc_day
) AS rolled
LEFT JOIN
(
    SELECT
        toDate(partition) AS utc_day,
        sum(max_block_number - min_block_number + 1) AS parts,
        min(min_block_number) AS first_part
    FROM system.parts
    WHERE active AND rows > 0 AND database = currentDatabase() AND table = 'charges'
    GROUP BY utc_day
) AS added
    ON added.utc_day = rolled.utc_day
WHERE added.parts = 0 OR added.parts < rolled.parts[1] OR added.first_part > rolled.first_part;
