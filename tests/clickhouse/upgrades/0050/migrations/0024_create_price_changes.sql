-- price_changes: what became of prices each time a book was pushed: the rates that were there and those that took their place.
-- Grain:     one row per push, and per model, rate period or tool that it added, changed or removed
-- Engine:    MergeTree, only ever added to
-- Order key: (changed_at, subject, provider, model), a push is read as a whole
-- Retention: kept, an audit needs them
-- Source:    otel_cost/store/prices.py
-- Read by:   people
-- subject is book, model, rates or tool. old and new are JSON, amounts are USD per unit, and empty where there is none. Of the
-- first book pushed here there is only its own row.
CREATE TABLE IF NOT EXISTS price_changes
(
    changed_at    DateTime64(6, 'UTC') CODEC(ZSTD(1)),
    actor         LowCardinality(String),
    old_version   LowCardinality(String),
    new_version   LowCardinality(String),
    subject       LowCardinality(String),
    change        LowCardinality(String),
    provider      LowCardinality(String),
    model         String CODEC(ZSTD(1)),
    service_tier  LowCardinality(String),
    valid_from    Nullable(DateTime('UTC')) CODEC(ZSTD(1)),
    old           String CODEC(ZSTD(1)),
    new           String CODEC(ZSTD(1))
)
ENGINE = MergeTree
ORDER BY (changed_at, subject, provider, model);
