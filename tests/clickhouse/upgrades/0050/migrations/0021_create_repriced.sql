-- repriced: the charges that a repricing is about to write, as they will be. Emptied by each repricing.
-- Grain:     one row per charge that may change, and per other charge of a trace whose remainders may
-- Engine:    ReplacingMergeTree(version), as charges, because the accounting pass goes over it, too
-- Order key: (trace_id, span_id), as charges
-- Retention: until the next repricing
-- Source:    queries/reprice_stage.sql, queries/reprice_undo.sql, queries/reprice_complete.sql, queries/reprice_account.sql
-- Read by:   views/repricing_changes.sql, queries/reprice_traces.sql, queries/reprice_apply.sql
-- A migration that changes the columns of charges changes these, too.
CREATE TABLE IF NOT EXISTS repriced AS charges
ENGINE = ReplacingMergeTree(version)
PARTITION BY toDate(started_at)
ORDER BY (trace_id, span_id);
