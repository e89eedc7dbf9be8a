-- traces_to_account: which of some traces need the accounting pass?
-- Parameters: trace_ids Array(String), first_day and last_day Date, between which their spans are
-- Result:     trace_id
-- Read by:    Store.account
SELECT trace_id
FROM unsettled_traces(
    trace_ids = {trace_ids:Array(String)},
    first_day = {first_day:Date},
    last_day = {last_day:Date});
