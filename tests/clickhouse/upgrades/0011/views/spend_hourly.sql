-- spend_hourly: estimated cost and tokens per payer, agent and model.
-- Grain:     one row per (organization, team, user_id, feature, agent_name, environment, provider, model, hour)
-- Source:    charges FINAL where counted
-- Read by:   queries/spend_over_time.sql, Grafana, people
-- A plain view, so exact whatever was delivered twice, late or out of order. cost_usd leaves unpriced_calls out, and is
-- NULL when nothing of the row could be priced.
CREATE OR REPLACE VIEW spend_hourly
AS
SELECT
    charge.organization AS organization,
    charge.team AS team,
    charge.user_id AS user_id,
    charge.feature AS feature,
    charge.agent_name AS agent_name,
    charge.environment AS environment,
    charge.provider AS provider,
    charge.model AS model,
    toStartOfHour(charge.started_at) AS hour,
    sum(charge.cost_usd) AS cost_usd,
    sum(charge.input_tokens) AS input_tokens,
    sum(charge.cache_read_tokens) AS cache_read_tokens,
    sum(charge.cache_write_tokens + charge.cache_write_1h_tokens) AS cache_write_tokens,
    sum(charge.output_tokens) AS output_tokens,
    sum(charge.reasoning_tokens) AS reasoning_tokens,
    countIf(charge.kind = 'model') AS calls,
    countIf(charge.kind = 'tool') AS tool_calls,
    countIf(charge.kind = 'model' AND isNull(charge.cost_usd)) AS unpriced_calls
FROM charges AS charge FINAL
WHERE charge.counted
GROUP BY
    organization,
    team,
    user_id,
    feature,
    agent_name,
    environment,
    provider,
    model,
    hour;
