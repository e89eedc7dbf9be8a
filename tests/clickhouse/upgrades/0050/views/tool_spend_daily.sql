-- tool_spend_daily: what tools were called for and cost, day by day.
-- Grain:     one row per day, organization, team, feature, environment, agent, tool, price status
-- Source:    tool_spend_days FINAL
-- Read by:   queries/, Grafana, people
-- cost_usd is NULL where no price is known for the tool.
-- utc_day is the day on the UTC clock, day the one on the organization's own (budgets.time_zone of the policy).
CREATE OR REPLACE VIEW tool_spend_daily
AS
SELECT
    utc_day,
    day,
    organization,
    team,
    feature,
    environment,
    agent_name,
    tool_name,
    price_status,
    cost_usd,
    list_cost_usd,
    tool_calls,
    failed_calls,
    duration_ns / 1e9 AS duration_s
FROM tool_spend_days FINAL;
