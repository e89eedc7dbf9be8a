-- spend_daily: estimated cost and tokens by day, without users.
-- Grain:     one row per day, organization, team, feature, environment, agent, component, model (or all tools), price status
-- Source:    spend_days FINAL
-- Read by:   queries/, Grafana, people
-- tool_spend_daily tells tools apart. cost_usd is NULL where nothing of a row has a price, and price_status 'unpriced' sets such
-- calls apart.
-- utc_day is the day on the UTC clock, day the one on the organization's own (budgets.time_zone of the policy).
CREATE OR REPLACE VIEW spend_daily
AS
SELECT
    utc_day,
    day,
    organization,
    team,
    feature,
    environment,
    agent_name,
    component,
    kind,
    provider,
    model,
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
FROM spend_days FINAL;
