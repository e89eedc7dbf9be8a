-- reprice_prepare: makes room for the charges that a repricing prepares.
-- Grain:     none, repriced is empty afterwards
-- Read by:   otel_cost/store/reprice.py at the start of a run
TRUNCATE TABLE repriced;
