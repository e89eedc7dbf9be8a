-- budget_status: how much of each budget is used, and will it last?
-- Parameters: at DateTime('UTC') (the moment asked about), is_day Bool (its date as a whole, on each clock), level String
--             (user, team, organization, or empty for all), limit UInt32
-- Result:     level, name, budget_window (day or month), is_hard, window_begins_on (on the organization's clock), limit_usd,
--             spent_usd, remaining_usd (USD, negative when overspent), utilisation_ratio (1 is all of it, NULL for a limit of
--             0), elapsed_ratio (of the window), burn_rate_usd_per_day, projected_usd (USD at the end of the window),
--             exhausted_at (UTC, NULL when it lasts), unpriced_calls (calls that spent_usd leaves out)
-- Bound:      the month of the moment asked about
-- Read by:    otel-cost budgets status
-- Half of the time was planning, which the two settings spare.
SELECT
    level,
    name,
    budget_window,
    is_hard,
    window_begins_on,
    limit_usd,
    spent_usd,
    remaining_usd,
    round(utilisation_ratio, 4) AS utilisation_ratio,
    round(elapsed_ratio, 4) AS elapsed_ratio,
    burn_rate_usd_per_day,
    projected_usd,
    exhausted_at,
    unpriced_calls
FROM budget_status_at(at = {at:DateTime('UTC')}, is_day = {is_day:Bool})
WHERE {level:String} = '' OR level = {level:String}
ORDER BY
    utilisation_ratio DESC NULLS FIRST,
    level,
    name
LIMIT {limit:UInt32}
SETTINGS optimize_and_compare_chain = 0, query_plan_merge_expressions = 0;
