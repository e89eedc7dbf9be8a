-- charge_readings: prices each billable span as it arrives. The same rules as otel_cost/charging.py and pricing.py.
-- Grain:     one row per billable span of an insert
-- Target:    charges, at version 0, so that what the accounting pass wrote stays when a span is delivered again
-- Source:    readings, on insert, model_patterns_dictionary, prices_dictionary and tool_prices_dictionary
-- Read by:   views/accounts.sql
-- In order of belief: what our processor wrote on the span, what the provider billed, list price times usage, what the
-- instrumentation computed. A model call that says no usage and failed with one of the errors below, which a provider answers
-- without beginning to work on a call, cost nothing. A span that names no provider gets that of its price entry. A tool costs
-- what the customer's price files say, per call and per unit. The cost is rounded once, half up, to a pico-dollar. Names are
-- looked up once an insert, because a lookup tries thousands of patterns. In daily peak hours the rates are those of another
-- service tier, 'PEAK' or 'PEAK batch', which no span can ask for: what spans say is read in lower case. Before a tier,
-- 'regional' says that inference was kept to a region, which makes no difference to a model without rates for that.
-- The steps before the last SELECT price whatever stands in readings. queries/reprice_stage.sql has the same steps price
-- old charges (otel_cost/store/files.py puts them in), so that amounts are computed here and nowhere else.
CREATE MATERIALIZED VIEW IF NOT EXISTS charge_readings
TO charges
AS
WITH
    names AS
    (
        SELECT
            provider,
            model,
            request_model,
            dictGet('model_patterns_dictionary', ('provider', 'model'), lower(provider || '/' || model)) AS by_model,
            dictGet('model_patterns_dictionary', ('provider', 'model'), lower(provider || '/' || request_model))
                AS by_request
        FROM
        (
            SELECT DISTINCT
                provider,
                model,
                request_model
            FROM readings
            WHERE is_billable AND has_usage
        )
    ),
    resolved AS
    (
        SELECT
            readings.*,
            names.by_model,
            names.by_request
        FROM readings
        LEFT JOIN names
            ON names.provider = readings.provider AND names.model = readings.model
            AND names.request_model = readings.request_model
        WHERE readings.is_billable
    ),
    keyed AS
    (
        SELECT
            * EXCEPT (by_model, by_request),
            multiIf(
                NOT has_usage, ('', ''),
                model != '' AND by_model.2 != '', by_model,
                request_model = '', ('', ''),
                by_request) AS entry,
            arrayStringConcat(
                arrayFilter(
                    word -> word NOT IN (
                        '', 'default', 'standard', 'standard_only', 'on_demand', 'on-demand', 'ondemand', 'auto', 'none'),
                    arrayDistinct(splitByChar(' ', lower(service_tier)))),
                ' ') AS said_tier,
            toDateTime(started_at, 'UTC') AS at,
            span_class = 'model' AND NOT has_usage AND isNull(reported_cost_usd) AND splitByChar('.', error_type)[-1] IN (
                '401', '402', '403', '404', '413', '429', '503', '529',
                'AuthenticationError', 'PermissionDeniedError', 'NotFoundError', 'RequestTooLargeError', 'RateLimitError',
                'ServiceUnavailableError', 'OverloadedError', 'UnauthorizedError', 'ForbiddenError', 'TooManyRequestsError',
                'AccessDeniedException', 'ResourceNotFoundException', 'ThrottlingException', 'ServiceUnavailableException',
                'ModelNotReadyException', 'Unauthenticated', 'PermissionDenied', 'NotFound', 'ResourceExhausted')
                AS is_refusal,
            input_tokens + cache_read_tokens + cache_write_tokens + cache_write_1h_tokens + tool_input_tokens
                + audio_input_tokens + audio_cache_read_tokens + image_input_tokens AS total_input,
            output_tokens + reasoning_tokens + audio_output_tokens + image_output_tokens AS total_output
        FROM resolved
    ),
    tiered AS
    (
        SELECT
            *,
            dictHas('prices_dictionary', (entry.1, entry.2, 'regional'), at) AS is_dearer_in_a_region,
            if(
                NOT is_dearer_in_a_region AND match(said_tier, '^regional( |$)'),
                substring(said_tier, 10),
                said_tier) AS asked_tier,
            dictHas('prices_dictionary', (entry.1, entry.2, asked_tier), at) AS has_tier,
            multiIf(has_tier, asked_tier, is_dearer_in_a_region AND startsWith(asked_tier, 'regional '), 'regional', '') AS tier
        FROM keyed
    ),
    dated AS
    (
        SELECT
            * EXCEPT (tier),
            dictGet('prices_dictionary', ('peak_begins', 'peak_ends'), (entry.1, entry.2, tier), at) AS peaks,
            if(
                arrayExists(
                    (begin, end) -> toSecond(at) + 60 * toMinute(at) + 3600 * toHour(at) BETWEEN begin AND end - 1,
                    peaks.1,
                    peaks.2),
                trim('PEAK ' || tier),
                tier) AS tier_at
        FROM tiered
    ),
    carded AS
    (
        SELECT
            * EXCEPT (peaks, tier_at),
            dictGet(
                'prices_dictionary',
                ('rates', 'thresholds', 'estimated', 'version', 'discount_ratio'),
                (entry.1, entry.2, tier_at),
                at) AS card
        FROM dated
    ),
    rated AS
    (
        SELECT
            *,
            arraySlice(card.1, 1 + 25 * if(
                span_class = 'aggregate',
                0,
                arrayCount(threshold -> total_input > threshold, card.2)), 25) AS rates,
            arrayFilter(part -> part.1 > 0, arrayZip([
                input_tokens, cache_read_tokens, cache_write_tokens, cache_write_1h_tokens, tool_input_tokens,
                audio_input_tokens, audio_cache_read_tokens, image_input_tokens, 0, 0, 0,
                output_tokens, reasoning_tokens, 0, audio_output_tokens, image_output_tokens,
                web_searches, 0, 0, 0, 0, 0, 0, 0, 1
            ]::Array(UInt64), arrayResize(rates, 25, toDecimal128(-1, 18)), range(1, 26))) AS parts
        FROM carded
    ),
    priced AS
    (
        SELECT
            *,
            arraySum(arrayMap(part -> if(part.2 > 0, part.1 * part.2, toDecimal128(0, 18)), parts)) AS amount,
            has_usage AND arrayExists(part -> part.2 < 0 AND part.3 < 25, parts) AS lacks_rate,
            arrayExists(part -> part.2 > 0 AND part.3 < 25, parts) AS has_rate,
            dictGet(
                'tool_prices_dictionary',
                ('tool_name', 'usd_per_call', 'usd_per_unit', 'unit_attribute', 'version'),
                lowerUTF8(tool_name)) AS tool,
            toDecimal128OrNull(trim(tool_units), 18) AS said_units,
            if(said_units >= 0 AND said_units <= 1000000000000, said_units, NULL) AS tool_unit_count,
            toDecimal256(tool.2, 18) + if(
                tool.4 = '',
                toDecimal256(0, 36),
                toDecimal256(tool_unit_count, 18) * toDecimal256(tool.3, 18)) AS tool_amount
        FROM rated
    ),
    listed AS
    (
        SELECT
            *,
            multiIf(
                is_refusal OR (tool.1 != '' AND isNotNull(tool_amount)), 'priced',
                NOT has_usage OR entry.2 = '' OR empty(rates) OR (lacks_rate AND NOT has_rate), 'unpriced',
                lacks_rate OR card.3 != '' OR is_estimate OR NOT has_tier, 'estimated',
                span_class = 'aggregate' AND arrayExists(threshold -> total_input > threshold, card.2), 'estimated',
                'priced') AS list_status
        FROM priced
    ),
    judged AS
    (
        SELECT
            *,
            multiIf(
                list_status = 'unpriced', NULL,
                tool.1 != '', CAST(round(tool_amount, 12), 'Nullable(Decimal(38, 12))'),
                CAST(round(amount, 12), 'Decimal(38, 12)')) AS list_amount,
            multiIf(
                list_status = 'unpriced', NULL,
                tool.1 != '', list_amount,
                CAST(round(toDecimal256(amount, 18) * (1 - card.5), 12), 'Decimal(38, 12)')) AS net_amount,
            multiIf(
                span_price_status != '', span_price_status,
                reported_by = 'provider', 'provided',
                reported_by = 'emitter' AND list_status = 'unpriced', 'estimated',
                list_status) AS price_status,
            multiIf(
                span_price_status != '', span_cost_usd,
                reported_by = 'provider' OR (reported_by = 'emitter' AND list_status = 'unpriced'),
                    CAST(round(reported_cost_usd, 12), 'Nullable(Decimal(38, 12))'),
                net_amount) AS cost_usd,
            if(span_price_status != '', span_list_cost_usd, list_amount) AS list_cost_usd,
            multiIf(span_price_status != '', span_price_version, tool.1 != '', tool.5, card.4) AS price_version,
            multiIf(span_price_status != '', span_price_model, tool.1 != '', tool.1, entry.2) AS price_model
        FROM listed
    )
SELECT
    trace_id,
    span_id,
    parent_span_id,
    execution_id,
    started_at,
    ended_at,
    service_name,
    scope_name,
    if(span_class = 'tool', 'tool', 'model') AS kind,
    span_class,
    if(judged.provider = '', judged.entry.1, judged.provider) AS provider,
    model,
    request_model,
    operation,
    service_tier,
    if(has_usage, total_input, NULL) AS input_tokens,
    cache_read_tokens,
    cache_write_tokens,
    cache_write_1h_tokens,
    tool_input_tokens,
    audio_input_tokens,
    audio_cache_read_tokens,
    image_input_tokens,
    if(has_usage, total_output, NULL) AS output_tokens,
    reasoning_tokens,
    audio_output_tokens,
    image_output_tokens,
    web_searches,
    usage_marks,
    cost_usd,
    list_cost_usd,
    price_status,
    price_version,
    price_model,
    is_estimate,
    isNotNull(reported_cost_usd) AS has_reported_cost,
    CAST(round(reported_cost_usd, 12), 'Nullable(Decimal(38, 12))') AS reported_cost_usd,
    judged.provider = '' AS is_provider_inferred,
    response_id,
    status,
    error_type,
    organization,
    team,
    user_id,
    feature,
    agent_name,
    component,
    tool_name,
    environment,
    session_id,
    0 AS version
FROM judged;
