-- budgets: what users may spend a day, teams and organizations a month.
-- Grain:     one row per level and entry of the policy
-- Engine:    MergeTree, replaced as a whole when the policy changes
-- Order key: (level, position), in which the entries of a level are tried
-- Retention: kept, and replaced with the policy
-- Source:    budgets of the policy, written by `otel-cost migrate`, `up` and `import`
-- Read by:   views/budget_status_at.sql
-- An entry holds for the name it is, and else the first whose regexp matches the whole name. limit_usd is NULL where the
-- policy says off.
CREATE TABLE IF NOT EXISTS budgets
(
    level           LowCardinality(String),
    position        UInt32,
    pattern         String,
    regexp          String,
    limit_usd       Nullable(Decimal(38, 12)),
    budget_window   LowCardinality(String),
    is_hard         Bool
)
ENGINE = MergeTree
ORDER BY (level, position);
