-- reprice_prepare: makes room for the charges that a repricing prepares.
-- Grain:     none, repriced is empty afterwards and has the columns of charges
-- Read by:   otel_cost/store/reprice.py at the start of a run
CREATE OR REPLACE TABLE repriced AS charges
ENGINE = ReplacingMergeTree(version)
PARTITION BY toDate(started_at)
ORDER BY (trace_id, span_id);
