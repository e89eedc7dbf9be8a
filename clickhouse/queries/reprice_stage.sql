-- reprice_stage: prices the charges of a part of a day again, at the rates of the book now here that held when each began.
-- Parameters: day Date, after and upto String: the charges of that day and of the traces after one and up to the other (all
--             that remain where empty),
--             since and until DateTime64(9), unpriced_only Bool, model and provider String, empty for any: which charges
-- Grain:     writes one row per charge whose amount, status, price entry or provider changes
-- Target:    repriced
-- Source:    charges, otel_traces for the units of tools that are paid by the unit, and the steps of views/charge_readings.sql
-- Read by:   otel_cost/store/reprice.py
-- asked says of a charge what readings said of its span, parts that other spans hold included. What a provider billed is not
-- asked, nor a tool paid by the unit whose span is gone. What a process wrote on its span is not believed again. A remainder
-- gets its whole amount as covered, for queries/reprice_account.sql to part it.
INSERT INTO repriced
WITH
    asked AS
    (
        SELECT
            charge.trace_id AS trace_id,
            charge.span_id AS span_id,
            true AS is_billable,
            charge.started_at AS started_at,
            charge.span_class AS span_class,
            if(charge.is_provider_inferred, '', charge.provider) AS provider,
            charge.model AS model,
            charge.request_model AS request_model,
            charge.service_tier AS service_tier,
            charge.tool_name AS tool_name,
            if(unit_attribute = '', '', span.attributes[unit_attribute]) AS tool_units,
            isNotNull(charge.input_tokens) AS has_usage,
            charge.cache_read_tokens + covered[3] AS cache_read_tokens,
            charge.cache_write_tokens + covered[4] AS cache_write_tokens,
            charge.cache_write_1h_tokens + covered[5] AS cache_write_1h_tokens,
            charge.tool_input_tokens AS tool_input_tokens,
            charge.audio_input_tokens AS audio_input_tokens,
            charge.audio_cache_read_tokens AS audio_cache_read_tokens,
            charge.image_input_tokens AS image_input_tokens,
            toUInt64(if(
                has_usage,
                charge.input_tokens + covered[1] - charge.cache_read_tokens - covered[3] - charge.cache_write_tokens
                    - covered[4] - charge.cache_write_1h_tokens - covered[5] - charge.tool_input_tokens
                    - charge.audio_input_tokens - charge.audio_cache_read_tokens - charge.image_input_tokens,
                0)) AS input_tokens,
            charge.reasoning_tokens + covered[6] AS reasoning_tokens,
            charge.audio_output_tokens AS audio_output_tokens,
            charge.image_output_tokens AS image_output_tokens,
            toUInt64(if(
                has_usage,
                charge.output_tokens + covered[2] - charge.reasoning_tokens - covered[6] - charge.audio_output_tokens
                    - charge.image_output_tokens,
                0)) AS output_tokens,
            charge.web_searches AS web_searches,
            charge.is_estimate AS is_estimate,
            charge.error_type AS error_type,
            if(
                isNull(charge.reported_cost_usd) AND charge.has_reported_cost AND charge.price_status = 'estimated'
                    AND isNull(whole_list_cost_usd),
                whole_cost_usd,
                charge.reported_cost_usd) AS reported_cost_usd,
            if(isNull(reported_cost_usd), '', 'emitter') AS reported_by,
            '' AS span_price_status,
            CAST(NULL, 'Nullable(Decimal(38, 12))') AS span_cost_usd,
            CAST(NULL, 'Nullable(Decimal(38, 12))') AS span_list_cost_usd,
            '' AS span_price_version,
            '' AS span_price_model,
            arrayResize(charge.covered_tokens, 6) AS covered,
            if(empty(charge.covered_tokens), charge.cost_usd, ifNull(charge.cost_usd, 0) + charge.covered_cost_usd)
                AS whole_cost_usd,
            if(
                empty(charge.covered_tokens),
                charge.list_cost_usd,
                ifNull(charge.list_cost_usd, 0) + charge.covered_list_cost_usd) AS whole_list_cost_usd,
            charge.price_status AS old_price_status,
            charge.price_model AS old_price_model,
            charge.provider AS old_provider,
            charge.is_provider_inferred AS is_provider_inferred,
            dictGet('tool_prices_dictionary', 'unit_attribute', lowerUTF8(charge.tool_name)) AS unit_attribute
        FROM charges AS charge FINAL
        LEFT JOIN
        (
            SELECT
                TraceId,
                SpanId,
                any(SpanAttributes) AS attributes
            FROM otel_traces
            WHERE toDate(Timestamp) = {day:Date}
                AND (TraceId, SpanId) IN (
                    SELECT
                        trace_id,
                        span_id
                    FROM charges
                    WHERE toDate(started_at) = {day:Date}
                        AND trace_id > {after:String}
                        AND ({upto:String} = '' OR trace_id <= {upto:String})
                        AND kind = 'tool'
                        AND dictGet('tool_prices_dictionary', 'unit_attribute', lowerUTF8(tool_name)) != '')
            GROUP BY
                TraceId,
                SpanId
        ) AS span
            ON span.TraceId = charge.trace_id AND span.SpanId = charge.span_id
        WHERE toDate(charge.started_at) = {day:Date}
            AND charge.trace_id > {after:String}
            AND ({upto:String} = '' OR charge.trace_id <= {upto:String})
            AND charge.started_at >= {since:DateTime64(9, 'UTC')}
            AND charge.started_at < {until:DateTime64(9, 'UTC')}
            AND charge.price_status != 'provided'
            AND (NOT {unpriced_only:Bool} OR charge.price_status = 'unpriced')
            AND ({model:String} = '' OR {model:String} IN (charge.model, charge.request_model, charge.price_model))
            AND ({provider:String} = '' OR lower(charge.provider) = lower({provider:String}))
            AND (unit_attribute = '' OR span.TraceId != '')
    ),
    <pricing of charges>,
    changed AS
    (
        SELECT
            trace_id,
            span_id,
            if(judged.provider = '', judged.entry.1, judged.provider) AS new_provider,
            cost_usd,
            list_cost_usd,
            price_status,
            price_version,
            price_model
        FROM judged
        WHERE NOT (cost_usd <=> whole_cost_usd) OR NOT (list_cost_usd <=> whole_list_cost_usd)
            OR price_status != old_price_status OR price_model != old_price_model OR new_provider != old_provider
    )
SELECT charge.* REPLACE (
    changed.new_provider AS provider,
    if(empty(charge.covered_tokens), changed.cost_usd, NULL) AS cost_usd,
    if(empty(charge.covered_tokens), changed.list_cost_usd, NULL) AS list_cost_usd,
    if(empty(charge.covered_tokens), NULL, changed.cost_usd) AS covered_cost_usd,
    if(empty(charge.covered_tokens), NULL, changed.list_cost_usd) AS covered_list_cost_usd,
    changed.price_status AS price_status,
    changed.price_version AS price_version,
    changed.price_model AS price_model,
    toUnixTimestamp64Micro(now64(6)) AS version)
FROM charges AS charge FINAL
INNER JOIN changed ON changed.trace_id = charge.trace_id AND changed.span_id = charge.span_id
WHERE toDate(charge.started_at) = {day:Date}
    AND charge.trace_id > {after:String}
    AND ({upto:String} = '' OR charge.trace_id <= {upto:String});
