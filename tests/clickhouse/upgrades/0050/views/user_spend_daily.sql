-- user_spend_daily: estimated cost and tokens by day and user.
-- Grain:     one row per (utc_day, day, organization, team, user_id, feature, price_status)
-- Source:    user_spend_days FINAL
-- Read by:   queries/, views/budget_status.sql, people
-- cost_usd is NULL where nothing of a row has a price. price_status 'unpriced' sets such calls apart.
-- utc_day is the day on the UTC clock, day the one on the organization's own (budgets.time_zone of the policy).
CREATE OR REPLACE VIEW user_spend_daily
AS
SELECT
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
    duration_ns / 1e9 AS duration_s
FROM user_spend_days FINAL;
