-- otel_cost_reader: people who ask. They read the store and nothing else, within a minute, 4 GB and a million rows a query.
-- Grain:     one role, its profile and its quota
-- Read by:   otel-cost migrate --roles, which runs each GRANT for every database of the store
CREATE SETTINGS PROFILE OR REPLACE otel_cost_reader
SETTINGS
    do_not_merge_across_partitions_select_final = 1,
    optimize_move_to_prewhere_if_final = 1,
    readonly = 2 CONST,
    max_execution_time = 60 MIN 1 MAX 60,
    max_memory_usage = 4000000000 MIN 1 MAX 4000000000,
    max_result_rows = 1000000 MIN 1 MAX 1000000,
    max_result_bytes = 268435456 MIN 1 MAX 268435456,
    max_concurrent_queries_for_user = 20 CONST,
    result_overflow_mode = 'throw' CONST,
    timeout_overflow_mode = 'throw' CONST,
    distributed_product_mode = 'global',
    skip_unavailable_shards = 0;

CREATE ROLE IF NOT EXISTS otel_cost_reader SETTINGS PROFILE 'otel_cost_reader';

CREATE QUOTA OR REPLACE otel_cost_reader
KEYED BY user_name
FOR INTERVAL 60 second MAX queries = 600, execution_time = 300
TO otel_cost_reader;

GRANT SELECT, dictGet, SHOW ON <database>.* TO otel_cost_reader;
