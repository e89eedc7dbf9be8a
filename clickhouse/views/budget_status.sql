-- budget_status: what is used of each budget now, and where that leads.
-- Grain:     one row per user, team or organization that a budget holds for, and has spent in the window or is named by it
-- Source:    budget_status_at, which says what the columns mean
-- Read by:   people, Grafana
CREATE OR REPLACE VIEW budget_status
AS
SELECT
    level,
    name,
    pattern,
    budget_window,
    is_hard,
    window_begins_on,
    limit_usd,
    spent_usd,
    remaining_usd,
    utilisation_ratio,
    elapsed_ratio,
    burn_rate_usd_per_day,
    projected_usd,
    exhausted_at,
    unpriced_calls
FROM budget_status_at(at = toDateTime(now(), 'UTC'), is_day = false);
