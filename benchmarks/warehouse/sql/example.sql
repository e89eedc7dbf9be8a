-- example: one execution to ask about, of the last whole day, and who pays it.
-- Parameters: day Date
-- Result:     the columns that named queries ask by
SELECT
    trace_id,
    execution_id,
    organization,
    team,
    user_id,
    feature,
    agent_name
FROM charges
WHERE toDate(started_at) = {day:Date} AND user_id != ''
ORDER BY cityHash64(trace_id)
LIMIT 1;
