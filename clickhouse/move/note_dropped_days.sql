-- note_dropped_days: notes that totals of days without charges were made elsewhere, so that no late span makes them anew.
-- Grain:     writes one row per UTC day
-- Target:    rollup_states
-- Source:    execution_days FINAL, charges
-- Read by:   otel_cost/store/move.py
-- No day ever has as many parts as it is noted with, so it is one of dropped_days for good.
INSERT INTO rollup_states
(
    utc_day,
    parts,
    first_part,
    version
)
SELECT DISTINCT
    utc_day,
    [toUInt64(-1), toUInt64(-1)] AS parts,
    0 AS first_part,
    toUnixTimestamp64Micro(now64(6)) AS version
FROM execution_days FINAL
WHERE utc_day NOT IN (SELECT toDate(started_at) FROM charges);
