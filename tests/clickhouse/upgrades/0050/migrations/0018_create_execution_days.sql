-- execution_days: what each execution cost on each day, and how it went as far as that day's spans tell.
-- Grain:     one row per UTC day and execution that has a charge on it, FINAL
-- Engine:    ReplacingMergeTree(version, is_deleted): a pass writes each key of a day anew, and deletes those that are gone
-- Order key: the day first, so that days do not overlap and FINAL is cheap
-- Retention: kept
-- Source:    rollups/5_execution_days.sql
-- Read by:   views/executions.sql, queries/top_*.sql
-- Amounts are those of the day. Payer columns hold the first value known on it. charged_from and charged_until are about
-- charges, spanned_from and spanned_until about all spans. status is that of the root span where has_root, else of the span
-- that ended last, which is at status_at. execution_key is shorter to count by.
-- longest_failed_run counts calls that failed one after the other.
CREATE TABLE IF NOT EXISTS execution_days
(
    utc_day             Date CODEC(Delta(2), ZSTD(1)),
    execution_id        String CODEC(ZSTD(1)),
    execution_key       UInt64 MATERIALIZED cityHash64(execution_id) CODEC(NONE),
    trace_id            String CODEC(ZSTD(1)),
    charged_from        DateTime64(9, 'UTC') CODEC(Delta(8), ZSTD(1)),
    charged_until       DateTime64(9, 'UTC') CODEC(Delta(8), ZSTD(1)),
    spanned_from        DateTime64(9, 'UTC') CODEC(Delta(8), ZSTD(1)),
    spanned_until       DateTime64(9, 'UTC') CODEC(Delta(8), ZSTD(1)),
    has_root            Bool,
    status              LowCardinality(String),
    status_at           DateTime64(9, 'UTC') CODEC(Delta(8), ZSTD(1)),
    cost_usd            Nullable(Decimal(38, 12)) CODEC(ZSTD(1)),
    list_cost_usd       Nullable(Decimal(38, 12)) CODEC(ZSTD(1)),
    model_calls         UInt64 CODEC(T64, ZSTD(1)),
    tool_calls          UInt64 CODEC(T64, ZSTD(1)),
    unpriced_calls      UInt64 CODEC(T64, ZSTD(1)),
    failed_calls        UInt64 CODEC(T64, ZSTD(1)),
    longest_failed_run  UInt64 CODEC(T64, ZSTD(1)),
    input_tokens        UInt64 CODEC(T64, ZSTD(1)),
    cache_read_tokens   UInt64 CODEC(T64, ZSTD(1)),
    output_tokens       UInt64 CODEC(T64, ZSTD(1)),
    max_input_tokens    UInt64 CODEC(T64, ZSTD(1)),
    first_input_tokens  UInt64 CODEC(T64, ZSTD(1)),
    models              Array(LowCardinality(String)),
    tools               Array(LowCardinality(String)),
    agents              Array(LowCardinality(String)),
    organization        LowCardinality(String),
    team                LowCardinality(String),
    user_id             String CODEC(ZSTD(1)),
    feature             LowCardinality(String),
    agent_name          LowCardinality(String),
    environment         LowCardinality(String),
    service_name        LowCardinality(String),
    version             UInt64 CODEC(ZSTD(1)),
    is_deleted          UInt8 CODEC(ZSTD(1))
)
ENGINE = ReplacingMergeTree(version, is_deleted)
PARTITION BY toYYYYMM(utc_day)
ORDER BY (utc_day, execution_id)
SETTINGS
    index_granularity = 8192,
    min_age_to_force_merge_seconds = 3600,
    min_age_to_force_merge_on_partition_only = 1;
