-- spend_hourly: estimated cost and tokens by hour and everything they can be sliced by.
-- Grain:     one row per hour, payer, agent, component, model or tool and price status
-- Source:    spend_hours FINAL
-- Read by:   queries/, Grafana, people
-- cost_usd is NULL where nothing of a row has a price. price_status 'unpriced' sets such calls apart.
-- utc_day is the day on the UTC clock, hour and day begin on the organization's own (budgets.time_zone of the policy).
CREATE OR REPLACE VIEW spend_hourly
AS
SELECT
    utc_day,
    hour,
    day,
    organization,
    team,
    user_id,
    feature,
    environment,
    agent_name,
    component,
    kind,
    provider,
    model,
    tool_name,
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
FROM spend_hours FINAL;
