-- otel_cost_writer: the Collector. It inserts spans and reads nothing. The views work with the rights of who made them.
-- Grain:     one role and its profile, with the settings of an insert
-- Read by:   otel-cost migrate --roles, which runs each GRANT for every database of the store
CREATE SETTINGS PROFILE OR REPLACE otel_cost_writer
SETTINGS
    short_circuit_function_evaluation = 'disable',
    query_plan_enable_optimizations = 0,
    optimize_and_compare_chain = 0,
    compile_expressions = 0,
    max_partitions_per_insert_block = 0,
    materialized_views_ignore_errors = 0,
    distributed_foreground_insert = 1;

CREATE ROLE IF NOT EXISTS otel_cost_writer SETTINGS PROFILE 'otel_cost_writer';

GRANT INSERT, SHOW COLUMNS ON <database>.otel_traces TO otel_cost_writer;
