-- rollup_states: up to which part of charges and trace_links each day is in the rollups.
-- Grain:     one row per UTC day after merges, so readers take the latest version
-- Engine:    ReplacingMergeTree(version), the time a pass began
-- Order key: utc_day, how it is looked up
-- Retention: kept, so that a day whose charges were dropped is not rolled again from what is left
-- Source:    rollups/9_rollup_states.sql
-- Read by:   views/stale_days.sql
CREATE TABLE IF NOT EXISTS rollup_states
(
    utc_day     Date,
    parts       Array(UInt64),
    first_part  UInt64,
    version     UInt64
)
ENGINE = ReplacingMergeTree(version)
ORDER BY utc_day;
