-- repricing_changes: what the charges of a part of a day are now, and what the prepared repricing makes of them.
-- Parameters: day Date, after and upto String: the charges of that day and of the traces after one and up to the other (all
--             that remain where empty)
-- Grain:     one row per charge in repriced
-- Source:    charges, repriced
-- Read by:   queries/reprice_audit.sql, queries/reprice_totals.sql
CREATE OR REPLACE VIEW repricing_changes
AS
SELECT
    new.trace_id AS trace_id,
    new.span_id AS span_id,
    new.started_at AS started_at,
    if(new.kind = 'tool', new.tool_name, new.model) AS model,
    old.provider AS old_provider,
    new.provider AS new_provider,
    if(empty(old.covered_tokens), old.cost_usd, ifNull(old.cost_usd, 0) + old.covered_cost_usd) AS old_cost_usd,
    if(empty(new.covered_tokens), new.cost_usd, ifNull(new.cost_usd, 0) + new.covered_cost_usd) AS new_cost_usd,
    if(empty(old.covered_tokens), old.list_cost_usd, ifNull(old.list_cost_usd, 0) + old.covered_list_cost_usd)
        AS old_list_cost_usd,
    if(empty(new.covered_tokens), new.list_cost_usd, ifNull(new.list_cost_usd, 0) + new.covered_list_cost_usd)
        AS new_list_cost_usd,
    if(old.counted, old.cost_usd, NULL) AS old_counted_usd,
    if(new.counted, new.cost_usd, NULL) AS new_counted_usd,
    old.price_status AS old_price_status,
    new.price_status AS new_price_status,
    old.price_version AS old_price_version,
    new.price_version AS new_price_version,
    old.price_model AS old_price_model,
    new.price_model AS new_price_model,
    NOT (old_cost_usd <=> new_cost_usd) OR NOT (old_list_cost_usd <=> new_list_cost_usd)
        OR NOT (old_counted_usd <=> new_counted_usd) OR old_price_status != new_price_status
        OR old_price_model != new_price_model OR old_provider != new_provider AS is_changed
FROM
(
    SELECT
        trace_id,
        span_id,
        started_at,
        provider,
        kind,
        model,
        tool_name,
        covered_tokens,
        cost_usd,
        list_cost_usd,
        covered_cost_usd,
        covered_list_cost_usd,
        counted,
        price_status,
        price_version,
        price_model
    FROM charges FINAL
    WHERE toDate(started_at) = {day:Date}
        AND trace_id > {after:String}
        AND ({upto:String} = '' OR trace_id <= {upto:String})
) AS old
INNER JOIN
(
    SELECT
        trace_id,
        span_id,
        started_at,
        provider,
        kind,
        model,
        tool_name,
        covered_tokens,
        cost_usd,
        list_cost_usd,
        covered_cost_usd,
        covered_list_cost_usd,
        counted,
        price_status,
        price_version,
        price_model
    FROM repriced FINAL
    WHERE toDate(started_at) = {day:Date}
        AND trace_id > {after:String}
        AND ({upto:String} = '' OR trace_id <= {upto:String})
) AS new
    ON new.trace_id = old.trace_id AND new.span_id = old.span_id;
