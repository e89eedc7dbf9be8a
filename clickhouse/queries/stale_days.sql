-- stale_days: for which days did spans come since they were rolled up?
-- Result:     utc_day, parts (added to charges and trace_links of that day so far), rolled_parts (those that are rolled up)
-- Bound:      as many rows as days have charges
-- Read by:    Store.roll, otel-cost doctor
SELECT
    utc_day,
    parts,
    rolled_parts
FROM stale_days
ORDER BY utc_day;
