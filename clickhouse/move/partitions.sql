-- partitions: which partitions has a table?
-- Parameters: table Identifier
-- Result:     partition_id, rows (as they are kept, before repeats are left out)
-- Read by:    otel_cost/store/move.py
SELECT
    _partition_id AS partition_id,
    count() AS rows
FROM {table:Identifier}
GROUP BY partition_id
ORDER BY partition_id;
