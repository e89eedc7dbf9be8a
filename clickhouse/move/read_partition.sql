-- read_partition: the rows of a partition, one each where several deliveries or versions are kept.
-- Parameters: table Identifier, partition_id String
-- Result:     every column that is inserted
-- Read by:    otel_cost/store/move.py
SELECT *
FROM {table:Identifier}
WHERE _partition_id = {partition_id:String}
SETTINGS final = 1, max_threads = 2;
