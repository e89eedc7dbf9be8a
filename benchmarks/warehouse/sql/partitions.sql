-- partitions: which partitions a table of this database has.
-- Parameters: table String
-- Result:     partition_id
SELECT DISTINCT partition_id
FROM system.parts
WHERE active AND database = currentDatabase() AND table = {table:String}
ORDER BY partition_id;
