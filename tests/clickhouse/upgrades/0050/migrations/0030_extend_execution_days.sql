-- execution_days: two more measures of how an execution went, for finding loops and contexts that grow.
-- Grain:     one row per UTC day and execution, as before
-- Read by:   views/recent_executions.sql
-- longest_repeat counts model calls in a row that were like the call one to four before: about the same length of answer, to
-- a prompt at least as long. median_growth_tokens is what a prompt typically has more than the one before.
ALTER TABLE execution_days
    ADD COLUMN IF NOT EXISTS longest_repeat UInt64 CODEC(T64, ZSTD(1)) AFTER first_input_tokens,
    ADD COLUMN IF NOT EXISTS median_growth_tokens UInt64 CODEC(T64, ZSTD(1)) AFTER longest_repeat;
