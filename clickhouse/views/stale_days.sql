-- stale_days: days for which spans came since they were rolled up.
-- Grain:     one row per UTC day
-- Source:    system.parts of charges and trace_links, rollup_states, dropped_days
-- Read by:   rollups/1_rolling_days.sql, Store.roll, otel-cost doctor. On a cluster each node has its own
-- parts counts what was ever added to the day: an insert adds to it, and a merge leaves it as it is. A day of which charges
-- were dropped since is left as it is.
CREATE OR REPLACE VIEW stale_days
AS
SELECT
    added.utc_day AS utc_day,
    added.parts AS parts,
    added.first_part AS first_part,
    rolled.parts AS rolled_parts
FROM
(
    SELECT
        toDate(partition) AS utc_day,
        sumForEach([
            if(table = 'charges', max_block_number - min_block_number + 1, 0),
            if(table = 'trace_links', max_block_number - min_block_number + 1, 0)
        ]::Array(UInt64)) AS parts,
        minIf(min_block_number, table = 'charges') AS first_part
    FROM system.parts
    WHERE active AND rows > 0 AND database = currentDatabase() AND table IN ('charges', 'trace_links')
    GROUP BY utc_day
) AS added
LEFT JOIN
(
    SELECT
        utc_day,
        argMax(parts, version) AS parts
    FROM rollup_states
    GROUP BY utc_day
) AS rolled
    ON rolled.utc_day = added.utc_day
WHERE added.parts[1] > 0
    AND added.utc_day NOT IN (SELECT utc_day FROM dropped_days)
    AND (added.parts[1] > rolled.parts[1] OR added.parts[2] > rolled.parts[2]);
