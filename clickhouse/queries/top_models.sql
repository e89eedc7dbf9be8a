-- top_models: which models cost most?
-- Parameters: since DateTime64(9, 'UTC') (from the beginning of its hour), limit UInt32
-- Result:     provider (in lower case), model, cost_usd (USD, NULL when nothing is priced), model_calls,
--             unpriced_calls (calls without a price: cost_usd leaves them out), estimated_calls, input_tokens,
--             cache_read_tokens, output_tokens
-- Read by:    otel-cost top models
SELECT
    lower(spend.provider) AS provider,
    model,
    sum(spend.cost_usd) AS cost_usd,
    sum(calls) AS model_calls,
    sumIf(calls, price_status = 'unpriced') AS unpriced_calls,
    sumIf(calls, price_status = 'estimated') AS estimated_calls,
    sum(spend.input_tokens) AS input_tokens,
    sum(spend.cache_read_tokens) AS cache_read_tokens,
    sum(spend.output_tokens) AS output_tokens
FROM
(
    SELECT
        provider,
        model,
        price_status,
        cost_usd,
        calls,
        input_tokens,
        cache_read_tokens,
        output_tokens
    FROM spend_daily
    WHERE kind = 'model' AND utc_day > toDate32({since:DateTime64(9, 'UTC')})
    UNION ALL
    SELECT
        provider,
        model,
        price_status,
        cost_usd,
        calls,
        input_tokens,
        cache_read_tokens,
        output_tokens
    FROM spend_hourly
    WHERE kind = 'model'
        AND utc_day = toDate32({since:DateTime64(9, 'UTC')})
        AND hour + INTERVAL 1 HOUR > toDateTime(greatest({since:DateTime64(9, 'UTC')}, toDateTime64(0, 9, 'UTC')), 'UTC')
) AS spend
GROUP BY
    provider,
    model
ORDER BY
    cost_usd DESC NULLS LAST,
    unpriced_calls DESC,
    provider,
    model
LIMIT {limit:UInt32};
