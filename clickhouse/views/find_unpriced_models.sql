-- find_unpriced_models: models that were used and have no price, so that what they cost is in no total.
-- Grain:     one row per model
-- Source:    spend_hours FINAL, anomaly_settings
-- Read by:   views/findings.sql
CREATE OR REPLACE VIEW find_unpriced_models
AS
SELECT
    'unpriced_model' AS kind,
    concat('model:', hourly.model) AS subject,
    '' AS organization,
    '' AS team,
    any(hourly.feature) AS feature,
    any(hourly.agent_name) AS agent_name,
    hourly.model AS model,
    CAST(NULL, 'Nullable(Decimal(38, 12))') AS stake_usd,
    toNullable(toDecimal128(0, 12)) AS expected,
    toDecimal128(sum(hourly.calls_with_usage), 12) AS seen,
    'calls' AS unit,
    format(
        concat(
            'nobody has told what {} costs: {} calls with {} tokens in and {} out since {} UTC are in no total, add ',
            'a price file, or see otel-cost prices check'),
        if(hourly.model = '', 'a model without a name', hourly.model),
        toString(sum(hourly.calls_with_usage)),
        toString(sum(hourly.input_tokens)),
        toString(sum(hourly.output_tokens)),
        toString(min(hourly.hour))) AS reason,
    concat(
        'SELECT hour, agent_name, feature, calls, input_tokens, output_tokens FROM spend_hourly WHERE model = ? AND ',
        'price_status = ''unpriced'' ORDER BY hour DESC LIMIT 200')
        AS evidence,
    hourly.model AS evidence_about,
    min(hourly.hour) AS first_seen,
    max(hourly.hour) AS last_seen
FROM spend_hours AS hourly FINAL
WHERE hourly.kind = 'model'
    AND hourly.price_status = 'unpriced'
    AND hourly.calls_with_usage > 0
    AND hourly.utc_day >= toDate((SELECT at FROM anomaly_clock)) - (SELECT watch_days FROM anomaly_settings)
    AND hourly.utc_day <= toDate((SELECT at FROM anomaly_clock)) + 1
GROUP BY hourly.model;
