-- find_routing_failures: features whose share of calls to dear models has jumped.
-- Grain:     one row per feature
-- Source:    spend_days FINAL, anomaly_settings
-- Read by:   views/findings.sql
-- A feature's dear models are those that cost twice as much per token, or more, as the cheapest that had a tenth of its calls
-- in the baseline_days before those watched. A day counts with routing_min_calls, when the share of dear calls is
-- routing_points above the median of the days before, above each of these days, and more than four standard errors away.
-- Calls of one execution go the same way, so a third as many count for the error. Told is the latest of these days.
CREATE OR REPLACE VIEW find_routing_failures
AS
WITH
    model_days AS
    (
        SELECT
            feature,
            utc_day,
            provider,
            model,
            utc_day > toDate((SELECT at FROM anomaly_clock)) - (SELECT watch_days FROM anomaly_settings) AS is_watched,
            sum(part.calls) AS calls,
            sum(part.input_tokens + part.output_tokens) AS tokens,
            sum(part.cost_usd) AS cost_usd
        FROM spend_days AS part FINAL
        WHERE kind = 'model'
            AND feature != ''
            AND utc_day > toDate((SELECT at FROM anomaly_clock))
                - (SELECT watch_days + baseline_days FROM anomaly_settings)
            AND utc_day <= toDate((SELECT at FROM anomaly_clock)) + 1
        GROUP BY
            feature,
            utc_day,
            provider,
            model
    ),
    model_rates AS
    (
        SELECT
            provider,
            model,
            toFloat64(sum(day.cost_usd)) / sum(day.tokens) AS usd_per_token
        FROM model_days AS day
        WHERE isNotNull(day.cost_usd) AND day.tokens > 0
        GROUP BY
            provider,
            model
    ),
    cheapest AS
    (
        SELECT
            known.feature AS feature,
            min(known.usd_per_token) AS usd_per_token
        FROM
        (
            SELECT
                day.feature AS feature,
                rate.usd_per_token AS usd_per_token,
                sum(day.calls) AS model_calls,
                sum(model_calls) OVER (PARTITION BY day.feature) AS feature_calls
            FROM model_days AS day
            INNER JOIN model_rates AS rate
                ON rate.provider = day.provider AND rate.model = day.model
            WHERE NOT day.is_watched
            GROUP BY
                day.feature,
                day.provider,
                day.model,
                rate.usd_per_token
        ) AS known
        WHERE known.model_calls >= 0.1 * known.feature_calls AND known.usd_per_token > 0
        GROUP BY feature
    ),
    shares AS
    (
        SELECT
            day.feature AS feature,
            day.utc_day AS utc_day,
            any(day.is_watched) AS is_watched,
            sum(day.calls) AS all_calls,
            sumIf(day.calls, rate.usd_per_token >= 2 * cheap.usd_per_token) AS dear_calls,
            sumIf(day.cost_usd, rate.usd_per_token >= 2 * cheap.usd_per_token) AS dear_usd,
            sumIf(day.cost_usd, rate.usd_per_token < 2 * cheap.usd_per_token) AS cheap_usd,
            argMaxIf(day.model, day.calls, rate.usd_per_token >= 2 * cheap.usd_per_token) AS dear_model,
            dear_calls / all_calls AS share
        FROM model_days AS day
        INNER JOIN model_rates AS rate
            ON rate.provider = day.provider AND rate.model = day.model
        INNER JOIN cheapest AS cheap
            ON cheap.feature = day.feature
        GROUP BY
            feature,
            utc_day
        HAVING all_calls > 0
    ),
    usual AS
    (
        SELECT
            feature,
            quantileExactInclusive(0.5)(usual_day.share) AS share,
            max(usual_day.share) AS highest_share,
            sum(cheap_usd) AS cheap_usd,
            sum(all_calls - dear_calls) AS cheap_calls,
            count() AS days
        FROM shares AS usual_day
        WHERE NOT is_watched AND all_calls >= 10
        GROUP BY feature
        HAVING days >= 5
    )
SELECT
    'routing_failure' AS kind,
    concat('feature:', day.feature) AS subject,
    '' AS organization,
    '' AS team,
    day.feature AS feature,
    '' AS agent_name,
    argMax(day.dear_model, day.utc_day) AS model,
    sum(
        (day.dear_usd / day.dear_calls - ifNull(usual.cheap_usd, 0) / greatest(usual.cheap_calls, 1))
        * toUInt64(round(day.dear_calls - usual.share * day.all_calls))) AS stake_usd,
    toNullable(toDecimal128(round(any(usual.share), 6), 12)) AS expected,
    toDecimal128(round(argMax(day.share, day.utc_day), 6), 12) AS seen,
    'ratio' AS unit,
    format(
        '{}% of {} calls on {} went to dear models, first of all {}, where {}% do at the median of {} days ({}% at most)',
        toString(round(100 * argMax(day.share, day.utc_day), 1)),
        toString(argMax(day.all_calls, day.utc_day)),
        toString(max(day.utc_day)),
        argMax(day.dear_model, day.utc_day),
        toString(round(100 * any(usual.share), 1)),
        toString(any(usual.days)),
        toString(round(100 * any(usual.highest_share), 1))) AS reason,
    concat(
        'SELECT utc_day, model, sum(calls) AS model_calls, sum(cost_usd) AS usd FROM spend_daily WHERE feature = ? ',
        'AND kind = ''model'' GROUP BY utc_day, model ORDER BY utc_day DESC, model_calls DESC LIMIT 200')
        AS evidence,
    day.feature AS evidence_about,
    min(toDateTime64(day.utc_day, 3, 'UTC')) AS first_seen,
    max(toDateTime64(day.utc_day, 3, 'UTC')) AS last_seen
FROM shares AS day
INNER JOIN usual
    ON usual.feature = day.feature
CROSS JOIN anomaly_settings AS setting
WHERE day.is_watched
    AND day.all_calls >= setting.routing_min_calls
    AND day.share >= usual.share + setting.routing_points
    AND day.share > usual.highest_share
    AND day.share - usual.share >= 4 * sqrt(greatest(usual.share * (1 - usual.share), 0.01) * 3 / day.all_calls)
GROUP BY day.feature;
