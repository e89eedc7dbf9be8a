-- reprice_audit: notes what a repricing is about to change in a part of a day.
-- Parameters: day Date, after and upto String: the charges of that day and of the traces after one and up to the other (all
--             that remain where empty), run_id String
-- Grain:     writes one row per charge that changes
-- Target:    repricings
-- Source:    repricing_changes
-- Read by:   otel_cost/store/reprice.py, just before reprice_apply
INSERT INTO repricings
(
    run_id,
    trace_id,
    span_id,
    started_at,
    model,
    old_provider,
    new_provider,
    old_cost_usd,
    new_cost_usd,
    old_list_cost_usd,
    new_list_cost_usd,
    old_counted_usd,
    new_counted_usd,
    old_price_status,
    new_price_status,
    old_price_version,
    new_price_version,
    old_price_model,
    new_price_model
)
SELECT
    {run_id:String},
    trace_id,
    span_id,
    started_at,
    model,
    old_provider,
    new_provider,
    old_cost_usd,
    new_cost_usd,
    old_list_cost_usd,
    new_list_cost_usd,
    old_counted_usd,
    new_counted_usd,
    old_price_status,
    new_price_status,
    old_price_version,
    new_price_version,
    old_price_model,
    new_price_model
FROM repricing_changes(day = {day:Date}, after = {after:String}, upto = {upto:String})
WHERE is_changed;
