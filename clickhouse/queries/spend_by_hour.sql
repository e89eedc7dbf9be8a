-- spend_by_hour: what was spent in each hour, by one thing it can be sliced by?
-- Parameters: since DateTime64(9, 'UTC'), until DateTime64(9, 'UTC') (whole hours), by String
--             (organization, team, user, feature, environment, agent, component, provider, model, tool, or empty for all)
-- Result:     hour (UTC), name (of what it is sliced by), cost_usd (USD, NULL when nothing is priced), model_calls, tool_calls,
--             unpriced_calls, input_tokens, output_tokens
-- Bound:      the last 8 days of the period, or up to now, a week of hours: spend_by_day shows longer ones
-- Read by:    dashboards
-- ClickHouse resolves an if whose condition is constant, and reads one column for name. Of a multiIf it would read all.
SELECT
    hour,
    name,
    sum(spend.cost_usd) AS cost_usd,
    sum(spend.calls) AS model_calls,
    sum(spend.tool_calls) AS tool_calls,
    sumIf(spend.calls, price_status = 'unpriced') AS unpriced_calls,
    sum(spend.input_tokens) AS input_tokens,
    sum(spend.output_tokens) AS output_tokens
FROM
(
    SELECT
        hour,
        if({by:String} = 'organization', organization,
        if({by:String} = 'team', team,
        if({by:String} = 'user', user_id,
        if({by:String} = 'feature', feature,
        if({by:String} = 'environment', environment,
        if({by:String} = 'agent', agent_name,
        if({by:String} = 'component', component,
        if({by:String} = 'provider', provider,
        if({by:String} = 'model', model,
        if({by:String} = 'tool', tool_name, '')))))))))) AS name,
        cost_usd,
        calls,
        tool_calls,
        price_status,
        input_tokens,
        output_tokens
    FROM spend_hourly
    WHERE hour + INTERVAL 1 HOUR > toDateTime(greatest({since:DateTime64(9, 'UTC')}, toDateTime64(0, 9, 'UTC')), 'UTC')
        AND hour <= toDateTime(
            least(greatest({until:DateTime64(9, 'UTC')}, toDateTime64(0, 9, 'UTC')), toDateTime64('2106-01-01', 9, 'UTC')),
            'UTC')
        AND utc_day BETWEEN toDate32({since:DateTime64(9, 'UTC')}) - 1 AND toDate32({until:DateTime64(9, 'UTC')}) + 1
        AND utc_day >= toDate32(least({until:DateTime64(9, 'UTC')}, now64(9, 'UTC'))) - 8
) AS spend
GROUP BY
    hour,
    name
ORDER BY
    hour,
    cost_usd DESC NULLS LAST,
    name;
