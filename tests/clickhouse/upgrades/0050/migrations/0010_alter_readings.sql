-- readings: what a span says, with what counts the units of a tool that is paid by the unit.
-- Grain:     one row per span of an insert, as before
-- Source:    views/read_spans.sql
-- Read by:   views/charge_readings.sql
-- tool_units is the value of the attribute that the tool's price names, as the span has it, and empty for all others.
ALTER TABLE readings
    ADD COLUMN IF NOT EXISTS tool_units String;
