-- bytes: what each table takes on disk.
-- Result: table, rows, bytes
SELECT
    table,
    sum(rows) AS rows,
    sum(bytes_on_disk) AS bytes
FROM system.parts
WHERE active AND database = currentDatabase()
GROUP BY table
ORDER BY bytes DESC;
