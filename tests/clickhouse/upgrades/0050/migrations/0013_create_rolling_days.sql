-- rolling_days: the days that a pass over the rollups makes anew, the latest first.
-- Grain:     one row per UTC day, a handful at a time
-- Engine:    MergeTree, replaced as a whole at the begin of each pass
-- Order key: utc_day, how it is looked up
-- Retention: until the next pass
-- Source:    rollups/1_rolling_days.sql
-- Read by:   rollups/
-- parts is how many parts had been added by then to the day of charges and of trace_links, first_part the number of the
-- earliest of charges.
CREATE TABLE IF NOT EXISTS rolling_days
(
    utc_day     Date,
    parts       Array(UInt64),
    first_part  UInt64,
    version     UInt64
)
ENGINE = MergeTree
ORDER BY utc_day;
