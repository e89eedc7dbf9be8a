-- otel_cost_grafana: dashboards. They read the store and nothing else, within half a minute and 2 GB a query.
-- Grain:     one role, its profile and its quota
-- Read by:   otel-cost migrate --roles, which runs each GRANT for every database of the store
CREATE SETTINGS PROFILE OR REPLACE otel_cost_grafana
SETTINGS
    do_not_merge_across_partitions_select_final = 1,
    optimize_move_to_prewhere_if_final = 1,
    readonly = 2 CONST,
    max_execution_time = 30 MIN 1 MAX 30,
    max_memory_usage = 2000000000 MIN 1 MAX 2000000000,
    max_result_rows = 100000 MIN 1 MAX 100000,
    max_result_bytes = 268435456 MIN 1 MAX 268435456,
    max_concurrent_queries_for_user = 20 CONST,
    result_overflow_mode = 'throw' CONST,
    timeout_overflow_mode = 'throw' CONST,
    distributed_product_mode = 'global',
    skip_unavailable_shards = 0;

CREATE ROLE IF NOT EXISTS otel_cost_grafana SETTINGS PROFILE 'otel_cost_grafana';

CREATE QUOTA OR REPLACE otel_cost_grafana
KEYED BY user_name
FOR INTERVAL 60 second MAX queries = 3000, execution_time = 600
TO otel_cost_grafana;

GRANT SELECT, dictGet, SHOW ON <database>.* TO otel_cost_grafana;
