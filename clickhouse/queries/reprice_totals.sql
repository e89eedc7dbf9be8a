-- reprice_totals: what does the prepared repricing change in a part of a day?
-- Parameters: day Date, after and upto String: the charges of that day and of the traces after one and up to the other (all
--             that remain where empty),
--             since and until DateTime64(9), unpriced_only Bool, model and provider String, empty for any: which charges
-- Result:     provider, model, charges (looked at, and changed because of others), changed, newly_priced, newly_unpriced,
--             old_cost_usd, new_cost_usd: what counts, USD
-- Read by:    otel_cost/store/reprice.py
SELECT
    if(new.trace_id != '', new.new_provider, old.provider) AS provider,
    if(old.kind = 'tool', old.tool_name, old.model) AS model,
    count() AS charges,
    countIf(new.trace_id != '') AS changed,
    countIf(new.trace_id != '' AND isNull(new.old_cost_usd) AND isNotNull(new.new_cost_usd)) AS newly_priced,
    countIf(new.trace_id != '' AND isNotNull(new.old_cost_usd) AND isNull(new.new_cost_usd)) AS newly_unpriced,
    sum(ifNull(old.counted_usd, 0)) AS old_cost_usd,
    sum(ifNull(if(new.trace_id != '', new.new_counted_usd, old.counted_usd), 0)) AS new_cost_usd
FROM
(
    SELECT
        trace_id,
        span_id,
        kind,
        provider,
        model,
        tool_name,
        if(counted, cost_usd, NULL) AS counted_usd,
        started_at >= {since:DateTime64(9, 'UTC')}
            AND started_at < {until:DateTime64(9, 'UTC')}
            AND price_status != 'provided'
            AND (NOT {unpriced_only:Bool} OR price_status = 'unpriced')
            AND ({model:String} = '' OR {model:String} IN (model, request_model, price_model))
            AND ({provider:String} = '' OR lower(provider) = lower({provider:String})) AS is_asked
    FROM charges FINAL
    WHERE toDate(started_at) = {day:Date}
        AND trace_id > {after:String}
        AND ({upto:String} = '' OR trace_id <= {upto:String})
) AS old
LEFT JOIN
(
    SELECT
        trace_id,
        span_id,
        new_provider,
        old_cost_usd,
        new_cost_usd,
        new_counted_usd
    FROM repricing_changes(day = {day:Date}, after = {after:String}, upto = {upto:String})
    WHERE is_changed
) AS new
    ON new.trace_id = old.trace_id AND new.span_id = old.span_id
WHERE old.is_asked OR new.trace_id != ''
GROUP BY
    provider,
    model
ORDER BY
    provider,
    model;
