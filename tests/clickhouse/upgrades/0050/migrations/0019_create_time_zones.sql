-- time_zones: what the clock of an organization shows, by how far it is ahead of UTC and when.
-- Grain:     one row per organization and period, and one organization named * for all others
-- Engine:    MergeTree, replaced as a whole when the policy changes
-- Order key: (organization, valid_from), how it is looked up
-- Retention: kept, and replaced with the policy
-- Source:    budgets.time_zone of the policy, written by `otel-cost migrate`, `up` and `import`
-- Read by:   views/time_zones_dictionary.sql, views/budget_status_at.sql
-- offset_s is negative west of Greenwich. valid_until is the last second. An organization in UTC has no row.
CREATE TABLE IF NOT EXISTS time_zones
(
    organization  String,
    time_zone     LowCardinality(String),
    valid_from    DateTime('UTC'),
    valid_until   DateTime('UTC'),
    offset_s      Int32
)
ENGINE = MergeTree
ORDER BY (organization, valid_from);
