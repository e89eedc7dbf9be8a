-- decisions: what the guard decided about model calls, and why. Only ever added to.
-- Grain:     one row per decision after merges, so readers use FINAL
-- Engine:    ReplacingMergeTree, so that a span delivered twice is one row
-- Order key: (trace_id, span_id, decided_at, event_number), what a decision is told apart by, its place among the events
--            of its span included
-- Retention: kept, an audit needs them
-- Source:    views/read_decisions.sql
-- Read by:   views/executions.sql, queries/decisions.sql, queries/trace_decisions.sql, queries/find_traces.sql
-- decision is deny, warn, remind, downgrade, clamp, wrap_up or approve. Only a denial in mode enforce stopped a call. kind
-- is the limit, detector or fault behind it. Amounts are of the scope, NULL where the event does not say them.
CREATE TABLE IF NOT EXISTS decisions
(
    decided_at      DateTime64(9, 'UTC') CODEC(Delta(8), ZSTD(1)),
    trace_id        String CODEC(ZSTD(1)),
    span_id         String CODEC(ZSTD(1)),
    event_number    UInt32 CODEC(T64, ZSTD(1)),
    execution_id    String CODEC(ZSTD(1)),
    decision        LowCardinality(String),
    kind            LowCardinality(String),
    mode            LowCardinality(String),
    scope           String CODEC(ZSTD(1)),
    limit_usd       Nullable(Decimal(38, 12)) CODEC(ZSTD(1)),
    spent_usd       Nullable(Decimal(38, 12)) CODEC(ZSTD(1)),
    reserved_usd    Nullable(Decimal(38, 12)) CODEC(ZSTD(1)),
    asked_usd       Nullable(Decimal(38, 12)) CODEC(ZSTD(1)),
    reason          String CODEC(ZSTD(1)),
    top_components  String CODEC(ZSTD(1)),
    model           LowCardinality(String),
    service_name    LowCardinality(String),
    organization    LowCardinality(String),
    team            LowCardinality(String),
    user_id         String CODEC(ZSTD(1)),
    feature         LowCardinality(String),
    agent_name      LowCardinality(String),
    component       LowCardinality(String),
    environment     LowCardinality(String),
    session_id      String CODEC(ZSTD(1))
)
ENGINE = ReplacingMergeTree
PARTITION BY toStartOfMonth(decided_at)
ORDER BY (trace_id, span_id, decided_at, event_number)
SETTINGS index_granularity = 8192;
