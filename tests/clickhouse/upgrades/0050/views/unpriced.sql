-- unpriced: models that were used and whose price is not known.
-- Grain:     one row per (provider, model)
-- Source:    spend_daily
-- Read by:   queries/unpriced.sql, otel-cost prices check, otel-cost doctor
CREATE OR REPLACE VIEW unpriced
AS
SELECT
    provider,
    model,
    sum(spend.calls) AS calls,
    sum(spend.calls_with_usage) AS calls_with_usage,
    sum(spend.input_tokens) AS input_tokens,
    sum(spend.output_tokens) AS output_tokens,
    min(utc_day) AS first_seen_on,
    max(utc_day) AS last_seen_on
FROM spend_daily AS spend
WHERE kind = 'model' AND price_status = 'unpriced'
GROUP BY
    provider,
    model;
