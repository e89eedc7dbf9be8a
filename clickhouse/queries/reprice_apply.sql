-- reprice_apply: writes the prepared charges of a part of a day that the audit names.
-- Parameters: day Date, after and upto String: the charges of that day and of the traces after one and up to the other (all
--             that remain where empty), run_id String, version UInt64
-- Grain:     writes one row per charge that changes, as a later version of it
-- Target:    charges
-- Source:    repriced, repricings
-- Read by:   otel_cost/store/reprice.py
-- version is a time at which these rows will be visible for certain: an accounting pass that began before it may have read the
-- old amounts, and loses to them. Every column of charges is in repriced, in its order.
INSERT INTO charges
SELECT * REPLACE ({version:UInt64} AS version)
FROM repriced FINAL
WHERE toDate(started_at) = {day:Date}
    AND trace_id > {after:String}
    AND ({upto:String} = '' OR trace_id <= {upto:String})
    AND (trace_id, span_id) IN (
        SELECT
            trace_id,
            span_id
        FROM repricings
        WHERE run_id = {run_id:String} AND toDate(started_at) = {day:Date}
            AND trace_id > {after:String}
            AND ({upto:String} = '' OR trace_id <= {upto:String}));
