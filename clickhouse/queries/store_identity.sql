-- store_identity: is this the database that an earlier import wrote to?
-- Parameters: none
-- Result:     identity String, another one when otel_traces was made anew
-- Read by:    otel-cost import, to know whether its notes on half-imported files still hold
SELECT
    toString(uuid) AS identity
FROM system.tables
WHERE database = currentDatabase()
    AND name = 'otel_traces'
