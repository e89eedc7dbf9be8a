-- readings: also whom a span itself names as the payer, whatever kind of span it is.
-- Grain:     one row per span of an insert, by the name of the column of charges
-- Engine:    Null, nothing is kept
-- Source:    views/read_spans.sql
-- Read by:   views/link_readings.sql
ALTER TABLE readings ADD COLUMN IF NOT EXISTS own_payer Map(String, String);
