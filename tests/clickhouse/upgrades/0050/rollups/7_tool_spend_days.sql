-- tool_spend_days: the hours of a pass's days added up by day and tool.
-- Grain:     writes every row of these days anew
-- Target:    tool_spend_days
-- Source:    spend_hours FINAL
-- Read by:   Store.roll, and a refreshable view on servers
-- Keys that are there and have no charge any more are written as deleted.
INSERT INTO tool_spend_days
(
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
    duration_ns,
    version,
    is_deleted
)
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
    sum(part.cost_usd) AS cost_usd,
    sum(part.list_cost_usd) AS list_cost_usd,
    sum(part.tool_calls) AS tool_calls,
    sum(part.failed_calls) AS failed_calls,
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
        feature,
        environment,
        agent_name,
        tool_name,
        price_status,
        sum(hours.cost_usd) AS cost_usd,
        sum(hours.list_cost_usd) AS list_cost_usd,
        sum(hours.tool_calls) AS tool_calls,
        sum(hours.failed_calls) AS failed_calls,
        sum(hours.duration_ns) AS duration_ns,
        true AS is_fresh
    FROM spend_hours AS hours FINAL
    WHERE utc_day IN (SELECT utc_day FROM rolling_days) AND kind = 'tool'
    GROUP BY
        utc_day,
        day,
        organization,
        team,
        feature,
        environment,
        agent_name,
        tool_name,
        price_status
    UNION ALL
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
        NULL AS cost_usd,
        NULL AS list_cost_usd,
        0 AS tool_calls,
        0 AS failed_calls,
        0 AS duration_ns,
        false AS is_fresh
    FROM tool_spend_days FINAL
    WHERE utc_day IN (SELECT utc_day FROM rolling_days)
) AS part
GROUP BY
    utc_day,
    day,
    organization,
    team,
    feature,
    environment,
    agent_name,
    tool_name,
    price_status;
