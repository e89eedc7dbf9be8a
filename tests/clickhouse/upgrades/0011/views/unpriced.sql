-- unpriced: models that were used and whose price is not known.
-- Grain:     one row per (provider, model)
-- Source:    charges FINAL where counted
-- Read by:   queries/unpriced.sql, otel-cost prices check, otel-cost doctor
CREATE OR REPLACE VIEW unpriced
AS
SELECT
    charge.provider AS provider,
    charge.model AS model,
    count() AS calls,
    countIf(isNotNull(charge.input_tokens)) AS calls_with_usage,
    sum(charge.input_tokens) AS input_tokens,
    sum(charge.output_tokens) AS output_tokens,
    min(charge.started_at) AS first_seen_at,
    max(charge.started_at) AS last_seen_at
FROM charges AS charge FINAL
WHERE charge.counted AND charge.kind = 'model' AND charge.price_status = 'unpriced'
GROUP BY
    provider,
    model;
