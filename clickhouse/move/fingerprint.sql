-- fingerprint: what is in a partition, whatever order and parts it is kept in?
-- Parameters: table Identifier, partition_id String
-- Result:     rows, checksum (the sum of the hashes of the rows, modulo 2^64)
-- Read by:    otel_cost/store/move.py
SELECT
    count() AS rows,
    sum(cityHash64(formatRow('RowBinary', *))) AS checksum
FROM {table:Identifier}
WHERE _partition_id = {partition_id:String}
SETTINGS final = 1;
