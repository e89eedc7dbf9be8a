-- fingerprint_of_totals: what is in a partition of a rollup, of days without charges?
-- Parameters: table Identifier, partition_id String
-- Result:     rows, checksum (the sum of the hashes of the rows, modulo 2^64)
-- Read by:    otel_cost/store/move.py
SELECT
    count() AS rows,
    sum(cityHash64(formatRow('RowBinary', *))) AS checksum
FROM {table:Identifier} FINAL
WHERE _partition_id = {partition_id:String} AND utc_day NOT IN (SELECT toDate(started_at) FROM charges);
