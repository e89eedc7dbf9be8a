-- repricings: what each repricing changed, charge by charge: the amount that was there and the one that took its place.
-- Grain:     one row per run and charge that it changed, after merges, so readers use FINAL
-- Engine:    ReplacingMergeTree, so that a run that was killed and goes on leaves one row
-- Order key: (run_id, trace_id, span_id), because a run is read as a whole and undone by it
-- Retention: kept, an audit needs them
-- Source:    queries/reprice_audit.sql
-- Read by:   queries/reprice_apply.sql, queries/reprice_undo.sql, people
-- model names the tool of a tool call. cost_usd is what the call costs, counted_usd what it adds to totals: nothing where it
-- does not count or where its price is unknown, and less than the cost where other spans hold a part of it.
CREATE TABLE IF NOT EXISTS repricings
(
    run_id             LowCardinality(String),
    trace_id           String CODEC(ZSTD(1)),
    span_id            String CODEC(ZSTD(1)),
    started_at         DateTime64(9, 'UTC') CODEC(Delta(8), ZSTD(1)),
    model              LowCardinality(String),
    old_provider       LowCardinality(String),
    new_provider       LowCardinality(String),
    old_cost_usd       Nullable(Decimal(38, 12)) CODEC(ZSTD(1)),
    new_cost_usd       Nullable(Decimal(38, 12)) CODEC(ZSTD(1)),
    old_list_cost_usd  Nullable(Decimal(38, 12)) CODEC(ZSTD(1)),
    new_list_cost_usd  Nullable(Decimal(38, 12)) CODEC(ZSTD(1)),
    old_counted_usd    Nullable(Decimal(38, 12)) CODEC(ZSTD(1)),
    new_counted_usd    Nullable(Decimal(38, 12)) CODEC(ZSTD(1)),
    old_price_status   LowCardinality(String),
    new_price_status   LowCardinality(String),
    old_price_version  LowCardinality(String),
    new_price_version  LowCardinality(String),
    old_price_model    LowCardinality(String),
    new_price_model    LowCardinality(String)
)
ENGINE = ReplacingMergeTree
PARTITION BY toStartOfMonth(started_at)
ORDER BY (run_id, trace_id, span_id);
