-- partitions_of_totals: which partitions of a rollup have totals of days without charges, which nobody can make again?
-- Parameters: table Identifier
-- Result:     partition_id, rows
-- Read by:    otel_cost/store/move.py
SELECT
    _partition_id AS partition_id,
    count() AS rows
FROM {table:Identifier} FINAL
WHERE utc_day NOT IN (SELECT toDate(started_at) FROM charges)
GROUP BY partition_id
ORDER BY partition_id;
