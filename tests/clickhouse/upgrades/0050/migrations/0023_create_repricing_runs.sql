-- repricing_runs: who priced charges again, when, why, at which prices, and what became of it.
-- Grain:     one row per run after merges, so readers use FINAL
-- Engine:    ReplacingMergeTree(noted_at): a run notes how far it has come
-- Order key: run_id
-- Retention: kept, an audit needs them
-- Source:    otel_cost/store/reprice.py
-- Read by:   queries/repricing_runs.sql, people
-- state is planning, applying, done, dry_run (nothing was to change), abandoned (ended before anything changed), stopped
-- (ended while it was writing) or undone.
-- step, day and after_trace_id say what is finished. Amounts are of what counts, changed or not, USD.
CREATE TABLE IF NOT EXISTS repricing_runs
(
    run_id          String,
    undoes_run_id   String,
    state           LowCardinality(String),
    worker          String,
    began_at        DateTime64(6, 'UTC'),
    noted_at        DateTime64(6, 'UTC'),
    actor           String,
    reason          String,
    since           DateTime64(9, 'UTC'),
    until           DateTime64(9, 'UTC'),
    model           String,
    provider        String,
    unpriced_only   Bool,
    price_version   String,
    step            LowCardinality(String),
    day             Date,
    after_trace_id  String,
    charges         UInt64,
    changed         UInt64,
    newly_priced    UInt64,
    newly_unpriced  UInt64,
    old_cost_usd    Decimal(38, 12),
    new_cost_usd    Decimal(38, 12)
)
ENGINE = ReplacingMergeTree(noted_at)
ORDER BY run_id;
