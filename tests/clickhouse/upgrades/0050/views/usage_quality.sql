-- usage_quality: how well the cost of model calls is known, day by day.
-- Grain:     one row per (day, organization, agent_name, provider, model)
-- Source:    spend_daily
-- Read by:   queries/usage_quality.sql, Grafana, people
-- provided: the provider said what it billed. priced: list price times tokens. estimated: a weaker source, or usage that had
-- to be corrected. unpriced: no amount. Ratios are of calls.
CREATE OR REPLACE VIEW usage_quality
AS
SELECT
    day,
    organization,
    agent_name,
    provider,
    model,
    sum(spend.calls) AS calls,
    sumIf(spend.calls, price_status = 'provided') AS provided_calls,
    sumIf(spend.calls, price_status = 'priced') AS priced_calls,
    sumIf(spend.calls, price_status = 'estimated') AS estimated_calls,
    sumIf(spend.calls, price_status = 'unpriced') AS unpriced_calls,
    sum(spend.calls) - sum(spend.calls_with_usage) AS calls_without_usage,
    provided_calls / calls AS provided_ratio,
    priced_calls / calls AS priced_ratio,
    estimated_calls / calls AS estimated_ratio,
    unpriced_calls / calls AS unpriced_ratio,
    sumIf(spend.cost_usd, price_status = 'estimated') AS estimated_cost_usd,
    sum(spend.cost_usd) AS cost_usd
FROM spend_daily AS spend
WHERE kind = 'model'
GROUP BY
    day,
    organization,
    agent_name,
    provider,
    model;
