-- extent: what is in the store.
-- Result: charges, executions, first_day, last_day, raw_since (the first day whose spans are kept, NULL where none are)
SELECT
    (SELECT count() FROM charges) AS charges,
    (SELECT uniqExact(execution_id) FROM charges) AS executions,
    (SELECT min(toDate(started_at)) FROM charges) AS first_day,
    (SELECT max(toDate(started_at)) FROM charges) AS last_day,
    (SELECT if(count() = 0, NULL, min(toDate(Timestamp))) FROM otel_traces) AS raw_since;
