-- usage_quality: how well is the cost of each model's calls known?
-- Parameters: since DateTime64(9, 'UTC') (from the begin of its day), limit UInt32
-- Result:     provider, model, calls, provided_ratio, priced_ratio, estimated_ratio, unpriced_ratio (of calls, together 1),
--             calls_without_usage, cost_usd (USD, NULL when nothing is priced)
-- Read by:    otel-cost doctor, dashboards
SELECT
    provider,
    model,
    sum(quality.calls) AS calls,
    round(sum(provided_calls) / sum(quality.calls), 4) AS provided_ratio,
    round(sum(priced_calls) / sum(quality.calls), 4) AS priced_ratio,
    round(sum(estimated_calls) / sum(quality.calls), 4) AS estimated_ratio,
    round(sum(unpriced_calls) / sum(quality.calls), 4) AS unpriced_ratio,
    sum(quality.calls_without_usage) AS calls_without_usage,
    sum(quality.cost_usd) AS cost_usd
FROM usage_quality AS quality
WHERE day >= toDate32({since:DateTime64(9, 'UTC')})
GROUP BY
    provider,
    model
ORDER BY
    unpriced_ratio DESC,
    estimated_ratio DESC,
    calls DESC,
    provider,
    model
LIMIT {limit:UInt32};
