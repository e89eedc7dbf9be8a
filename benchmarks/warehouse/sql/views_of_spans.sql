-- views_of_spans: which views work on every span that is inserted?
-- Result: name
SELECT arrayJoin(dependencies_table) AS name
FROM system.tables
WHERE database = currentDatabase() AND name = 'otel_traces';
