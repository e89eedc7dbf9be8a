-- top_models: which models cost most?
-- Parameters: since DateTime64(9, 'UTC') (charges that began at or after it), limit UInt32
-- Result:     provider (in lower case), model, cost_usd (USD, NULL when nothing is priced), model_calls,
--             unpriced_calls (calls without a price: cost_usd leaves them out), estimated_calls, input_tokens,
--             cache_read_tokens, output_tokens
-- Read by:    otel-cost top models
SELECT
    lower(charge.provider) AS provider,
    model,
    sum(cost_usd) AS cost_usd,
    count() AS model_calls,
    countIf(isNull(charge.cost_usd)) AS unpriced_calls,
    countIf(price_status = 'estimated') AS estimated_calls,
    sum(input_tokens) AS input_tokens,
    sum(cache_read_tokens + audio_cache_read_tokens) AS cache_read_tokens,
    sum(output_tokens) AS output_tokens
FROM charges AS charge FINAL
WHERE counted
    AND kind = 'model'
    AND started_at >= {since:DateTime64(9, 'UTC')}
GROUP BY
    provider,
    model
ORDER BY
    cost_usd DESC NULLS LAST,
    unpriced_calls DESC,
    provider,
    model
LIMIT {limit:UInt32};
