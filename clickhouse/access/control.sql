-- otel_cost_control: `otel-cost up`, `import`, `migrate` and `move`. It may do anything to the store, and nothing beside it.
-- Grain:     one role and its profile
-- Read by:   otel-cost migrate --roles, which runs each GRANT for every database of the store
-- REMOTE is how the nodes of a cluster are found.
CREATE SETTINGS PROFILE OR REPLACE otel_cost_control
SETTINGS
    do_not_merge_across_partitions_select_final = 1,
    optimize_move_to_prewhere_if_final = 1,
    distributed_foreground_insert = 1;

CREATE ROLE IF NOT EXISTS otel_cost_control SETTINGS PROFILE 'otel_cost_control';

GRANT SELECT, INSERT, ALTER, CREATE, DROP, TRUNCATE, OPTIMIZE, SHOW, dictGet ON <database>.* TO otel_cost_control;

GRANT TABLE ENGINE ON Null TO otel_cost_control;

GRANT TABLE ENGINE ON MergeTree TO otel_cost_control;

GRANT TABLE ENGINE ON ReplacingMergeTree TO otel_cost_control;

GRANT TABLE ENGINE ON AggregatingMergeTree TO otel_cost_control;

GRANT TABLE ENGINE ON ReplicatedMergeTree TO otel_cost_control;

GRANT TABLE ENGINE ON ReplicatedReplacingMergeTree TO otel_cost_control;

GRANT TABLE ENGINE ON ReplicatedAggregatingMergeTree TO otel_cost_control;

GRANT TABLE ENGINE ON Distributed TO otel_cost_control;

GRANT SYSTEM VIEWS ON <database>.* TO otel_cost_control;

GRANT SYSTEM RELOAD DICTIONARY ON *.* TO otel_cost_control;

GRANT SELECT ON system.* TO otel_cost_control;

GRANT REMOTE ON *.* TO otel_cost_control;
