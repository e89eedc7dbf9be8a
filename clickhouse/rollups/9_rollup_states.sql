-- rollup_states: notes that the days of this pass are done, up to the parts they had when it began.
-- Grain:     writes one row per UTC day
-- Target:    rollup_states
-- Source:    rolling_days
-- Read by:   Store.roll, and a refreshable view on servers
INSERT INTO rollup_states
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
    version
FROM rolling_days;
