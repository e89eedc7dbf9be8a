-- spend_by_day: what was spent on each day, by one thing it can be sliced by?
-- Parameters: since DateTime64(9, 'UTC'), until DateTime64(9, 'UTC') (whole days of the organization's clock), by String
--             (organization, team, feature, environment, agent, component, provider, model, tool, or empty for all together)
-- Result:     day, name (of what it is sliced by), cost_usd (USD, NULL when nothing is priced), model_calls, tool_calls,
--             unpriced_calls, input_tokens, output_tokens
-- Bound:      400 days
-- Read by:    dashboards
SELECT
    day,
    multiIf(
        {by:String} = 'organization', organization,
        {by:String} = 'team', team,
        {by:String} = 'feature', feature,
        {by:String} = 'environment', environment,
        {by:String} = 'agent', agent_name,
        {by:String} = 'component', component,
        {by:String} = 'provider', provider,
        {by:String} = 'model', model,
        {by:String} = 'tool', tool_name,
        '') AS name,
    sum(spend.cost_usd) AS cost_usd,
    sum(spend.calls) AS model_calls,
    sum(spend.tool_calls) AS tool_calls,
    sumIf(spend.calls, price_status = 'unpriced') AS unpriced_calls,
    sum(spend.input_tokens) AS input_tokens,
    sum(spend.output_tokens) AS output_tokens
FROM spend_daily AS spend
WHERE day BETWEEN toDate({since:DateTime64(9, 'UTC')}) AND toDate({until:DateTime64(9, 'UTC')})
    AND utc_day BETWEEN toDate({since:DateTime64(9, 'UTC')}) - 1 AND toDate({until:DateTime64(9, 'UTC')}) + 1
    AND utc_day >= toDate({until:DateTime64(9, 'UTC')}) - 400
GROUP BY
    day,
    name
ORDER BY
    day,
    cost_usd DESC NULLS LAST,
    name;
