-- find_oversized_models: features that use a dear model for simple tasks, which a cheaper one of the same provider does as well.
-- Grain:     one row per feature
-- Source:    views/recent_executions.sql, spend_days FINAL, anomaly_settings
-- Read by:   views/findings.sql
-- A task is simple when its execution called one model, once or twice, and no tool, with simple_input_tokens and
-- simple_output_tokens a call at most. The dear model must have had simple_min_executions of them within watch_days, four in
-- five of all it did for the feature, and the cheaper one must have done ten for the same feature within baseline_days, at half
-- the cost or less, and failed at no more than five in a hundred beyond the dear one's. Told is the dearest of a feature.
CREATE OR REPLACE VIEW find_oversized_models
AS
WITH
    tasks AS
    (
        SELECT
            feature,
            run.models[1] AS model,
            countIf(is_watched) AS watched_executions,
            countIf(is_watched AND is_simple) AS watched_simple,
            countIf(is_simple) AS simple_executions,
            sumIf(run.cost_usd, is_simple) AS simple_usd,
            sumIf(run.cost_usd, is_watched AND is_simple) AS watched_usd,
            countIf(is_simple AND (status = 'Error' OR failed_calls >= model_calls)) / greatest(countIf(is_simple), 1)
                AS failed_ratio,
            minIf(run.started_at, is_watched AND is_simple) AS first_seen,
            maxIf(run.ended_at, is_watched AND is_simple) AS last_seen
        FROM
        (
            SELECT
                *,
                model_calls <= 2
                    AND tool_calls = 0
                    AND isNotNull(cost_usd)
                    AND input_tokens <= model_calls * (SELECT simple_input_tokens FROM anomaly_settings)
                    AND output_tokens <= model_calls * (SELECT simple_output_tokens FROM anomaly_settings) AS is_simple
            FROM recent_executions
            WHERE length(models) = 1 AND model_calls > 0 AND feature != ''
        ) AS run
        GROUP BY
            feature,
            model
        HAVING simple_executions >= 10
    ),
    providers AS
    (
        SELECT
            model,
            any(provider) AS provider
        FROM spend_days FINAL
        WHERE kind = 'model'
            AND utc_day >= toDate((SELECT at FROM anomaly_clock)) - (SELECT baseline_days FROM anomaly_settings)
            AND utc_day <= toDate((SELECT at FROM anomaly_clock)) + 1
        GROUP BY model
    )
SELECT
    'oversized_model' AS kind,
    concat('feature:', dear.feature) AS subject,
    '' AS organization,
    '' AS team,
    dear.feature AS feature,
    '' AS agent_name,
    dear.model AS model,
    dear.watched_usd - cheap.simple_usd * dear.watched_simple / cheap.simple_executions AS stake_usd,
    toNullable(assumeNotNull(cheap.simple_usd) / cheap.simple_executions) AS expected,
    assumeNotNull(dear.simple_usd) / dear.simple_executions AS seen,
    'USD' AS unit,
    format(
        concat(
            '{} of {} executions on {} were simple (one short answer, no tools) and cost ${} each, {} of the same ',
            'provider did {} such for this feature at ${} each, and failed at {}% of them ({}: {}%)'),
        toString(dear.watched_simple),
        toString(dear.watched_executions),
        dear.model,
        toString(round(assumeNotNull(dear.simple_usd) / dear.simple_executions, 6)),
        cheap.model,
        toString(cheap.simple_executions),
        toString(round(assumeNotNull(cheap.simple_usd) / cheap.simple_executions, 6)),
        toString(round(100 * cheap.failed_ratio, 1)),
        dear.model,
        toString(round(100 * dear.failed_ratio, 1))) AS reason,
    concat(
        'SELECT models, count() AS executions, sum(cost_usd) AS usd, avg(input_tokens) AS input, avg(output_tokens) ',
        'AS output, countIf(status = ''error'') AS failed FROM executions WHERE feature = ? GROUP BY models')
        AS evidence,
    dear.feature AS evidence_about,
    dear.first_seen AS first_seen,
    dear.last_seen AS last_seen
FROM tasks AS dear
INNER JOIN tasks AS cheap
    ON cheap.feature = dear.feature
INNER JOIN providers AS dear_provider
    ON dear_provider.model = dear.model
INNER JOIN providers AS cheap_provider
    ON cheap_provider.model = cheap.model
CROSS JOIN anomaly_settings AS setting
WHERE cheap.model != dear.model
    AND dear_provider.provider = cheap_provider.provider
    AND dear.watched_simple >= setting.simple_min_executions
    AND dear.watched_simple >= 0.8 * dear.watched_executions
    AND cheap.failed_ratio <= dear.failed_ratio + 0.05
    AND 2 * cheap.simple_usd / cheap.simple_executions <= dear.simple_usd / dear.simple_executions
ORDER BY stake_usd DESC
LIMIT 1 BY subject;
