-- read_partition_of_totals: the rows of a rollup's partition, of days without charges.
-- Parameters: table Identifier, partition_id String
-- Result:     every column that is inserted
-- Read by:    otel_cost/store/move.py
SELECT *
FROM {table:Identifier} FINAL
WHERE _partition_id = {partition_id:String} AND utc_day NOT IN (SELECT toDate(started_at) FROM charges)
SETTINGS max_threads = 2;
