-- traces_of_day: the traces of one day, for the accounting pass.
-- Parameters: seed UInt64, day Date, runs UInt64
-- Result:     trace_id
SELECT trace_id
FROM seeds.runs(seed = {seed:UInt64}, day = {day:Date}, runs = {runs:UInt64});
