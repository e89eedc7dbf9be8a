-- reprice_traces: in which traces may prepared amounts change what another span counts for?
-- Parameters: day Date, after and upto String: the charges of that day and of the traces after one and up to the other (all
--             that remain where empty)
-- Result:     trace_id: one holds a remainder or a span that only says what it cost, or a call has another price entry, by
--             which records of one call are matched
-- Read by:    otel_cost/store/reprice.py
WITH
    new AS
    (
        SELECT
            trace_id,
            span_id,
            lower(arrayElement(splitByChar('/', if(price_model != '', price_model, model)), -1)) AS entry
        FROM repriced FINAL
        WHERE toDate(started_at) = {day:Date}
            AND trace_id > {after:String}
            AND ({upto:String} = '' OR trace_id <= {upto:String})
    ),
    old AS
    (
        SELECT
            trace_id,
            span_id,
            lower(arrayElement(splitByChar('/', if(price_model != '', price_model, model)), -1)) AS entry
        FROM charges FINAL
        WHERE toDate(started_at) = {day:Date}
            AND trace_id > {after:String}
            AND ({upto:String} = '' OR trace_id <= {upto:String})
    )
SELECT DISTINCT new.trace_id AS trace_id
FROM new
INNER JOIN old ON old.trace_id = new.trace_id AND old.span_id = new.span_id
WHERE old.entry != new.entry
    OR new.trace_id IN (
        SELECT trace_id
        FROM charges
        WHERE trace_id > {after:String}
            AND ({upto:String} = '' OR trace_id <= {upto:String})
            AND (notEmpty(covered_tokens) OR (kind = 'model' AND isNull(input_tokens) AND has_reported_cost)));
