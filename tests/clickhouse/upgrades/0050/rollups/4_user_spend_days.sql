-- user_spend_days: the hours of a pass's days added up by day and user.
-- Grain:     writes every row of these days anew
-- Target:    user_spend_days
-- Source:    spend_hours FINAL
-- Read by:   Store.roll, and a refreshable view on servers
-- Keys that are there and have no charge any more are written as deleted.
INSERT INTO user_spend_days
(
    utc_day,
    day,
    organization,
    team,
    user_id,
    feature,
    price_status,
    cost_usd,
    list_cost_usd,
    calls,
    tool_calls,
    failed_calls,
    calls_with_usage,
    input_tokens,
    cache_read_tokens,
    cache_write_tokens,
    cache_write_1h_tokens,
    output_tokens,
    reasoning_tokens,
    duration_ns,
    version,
    is_deleted
)
SELECT
    utc_day,
    day,
    organization,
    team,
    user_id,
    feature,
    price_status,
    sum(part.cost_usd) AS cost_usd,
    sum(part.list_cost_usd) AS list_cost_usd,
    sum(part.calls) AS calls,
    sum(part.tool_calls) AS tool_calls,
    sum(part.failed_calls) AS failed_calls,
    sum(part.calls_with_usage) AS calls_with_usage,
    sum(part.input_tokens) AS input_tokens,
    sum(part.cache_read_tokens) AS cache_read_tokens,
    sum(part.cache_write_tokens) AS cache_write_tokens,
    sum(part.cache_write_1h_tokens) AS cache_write_1h_tokens,
    sum(part.output_tokens) AS output_tokens,
    sum(part.reasoning_tokens) AS reasoning_tokens,
    sum(part.duration_ns) AS duration_ns,
    (SELECT max(version) FROM rolling_days) AS version,
    NOT max(is_fresh) AS is_deleted
FROM
(
    SELECT
        utc_day,
        day,
        organization,
        team,
        user_id,
        feature,
        price_status,
        sum(hours.cost_usd) AS cost_usd,
        sum(hours.list_cost_usd) AS list_cost_usd,
        sum(hours.calls) AS calls,
        sum(hours.tool_calls) AS tool_calls,
        sum(hours.failed_calls) AS failed_calls,
        sum(hours.calls_with_usage) AS calls_with_usage,
        sum(hours.input_tokens) AS input_tokens,
        sum(hours.cache_read_tokens) AS cache_read_tokens,
        sum(hours.cache_write_tokens) AS cache_write_tokens,
        sum(hours.cache_write_1h_tokens) AS cache_write_1h_tokens,
        sum(hours.output_tokens) AS output_tokens,
        sum(hours.reasoning_tokens) AS reasoning_tokens,
        sum(hours.duration_ns) AS duration_ns,
        true AS is_fresh
    FROM spend_hours AS hours FINAL
    WHERE utc_day IN (SELECT utc_day FROM rolling_days)
    GROUP BY
        utc_day,
        day,
        organization,
        team,
        user_id,
        feature,
        price_status
    UNION ALL
    SELECT
        utc_day,
        day,
        organization,
        team,
        user_id,
        feature,
        price_status,
        NULL AS cost_usd,
        NULL AS list_cost_usd,
        0 AS calls,
        0 AS tool_calls,
        0 AS failed_calls,
        0 AS calls_with_usage,
        0 AS input_tokens,
        0 AS cache_read_tokens,
        0 AS cache_write_tokens,
        0 AS cache_write_1h_tokens,
        0 AS output_tokens,
        0 AS reasoning_tokens,
        0 AS duration_ns,
        false AS is_fresh
    FROM user_spend_days FINAL
    WHERE utc_day IN (SELECT utc_day FROM rolling_days)
) AS part
GROUP BY
    utc_day,
    day,
    organization,
    team,
    user_id,
    feature,
    price_status;
