-- charges: what each model call and tool call cost, and whether it counts. SELECT ... FROM charges FINAL is always valid.
-- Grain:     one row per billable span after merges, so readers use FINAL and WHERE counted
-- Engine:    ReplacingMergeTree(version): views write a span's own facts, the accounting pass writes later versions
-- Order key: (trace_id, span_id), because accounting and deduplication ask by trace
-- Retention: none set here, partitions are days
-- Source:    views/charge_readings.sql on insert, queries/account_traces.sql after it
-- Read by:   views/executions.sql, views/spend_hourly.sql, views/unpriced.sql, views/accounts.sql, queries/
-- response_key is response_id made short, for looking a day over. Amounts are what counts. Where a span counts only for
-- a remainder, covered_tokens (input, output, cache read, cache write, cache write 1 h, reasoning) and covered_cost_usd
-- hold the rest, so that the span's own total is the sum.
CREATE TABLE IF NOT EXISTS charges
(
    trace_id                 String CODEC(ZSTD(1)),
    span_id                  String CODEC(ZSTD(1)),
    parent_span_id           String CODEC(ZSTD(1)),
    execution_id             String CODEC(ZSTD(1)),
    started_at               DateTime64(9, 'UTC') CODEC(Delta(8), ZSTD(1)),
    ended_at                 DateTime64(9, 'UTC') CODEC(Delta(8), ZSTD(1)),
    duration_s               Float64 ALIAS toUnixTimestamp64Nano(ended_at) / 1e9 - toUnixTimestamp64Nano(started_at) / 1e9,
    service_name             LowCardinality(String),
    scope_name               LowCardinality(String),
    kind                     LowCardinality(String),
    span_class               LowCardinality(String),
    provider                 LowCardinality(String),
    model                    LowCardinality(String),
    request_model            LowCardinality(String),
    operation                LowCardinality(String),
    service_tier             LowCardinality(String),
    input_tokens             Nullable(UInt64) CODEC(T64, ZSTD(1)),
    cache_read_tokens        UInt64 CODEC(T64, ZSTD(1)),
    cache_write_tokens       UInt64 CODEC(T64, ZSTD(1)),
    cache_write_1h_tokens    UInt64 CODEC(T64, ZSTD(1)),
    tool_input_tokens        UInt64 CODEC(T64, ZSTD(1)),
    audio_input_tokens       UInt64 CODEC(T64, ZSTD(1)),
    audio_cache_read_tokens  UInt64 CODEC(T64, ZSTD(1)),
    image_input_tokens       UInt64 CODEC(T64, ZSTD(1)),
    output_tokens            Nullable(UInt64) CODEC(T64, ZSTD(1)),
    reasoning_tokens         UInt64 CODEC(T64, ZSTD(1)),
    audio_output_tokens      UInt64 CODEC(T64, ZSTD(1)),
    image_output_tokens      UInt64 CODEC(T64, ZSTD(1)),
    web_searches             UInt64 CODEC(T64, ZSTD(1)),
    usage_marks              Array(LowCardinality(String)),
    cost_usd                 Nullable(Decimal(38, 12)) CODEC(ZSTD(1)),
    list_cost_usd            Nullable(Decimal(38, 12)) CODEC(ZSTD(1)),
    price_status             LowCardinality(String),
    price_version            LowCardinality(String),
    price_model              LowCardinality(String),
    counted                  Bool DEFAULT true,
    not_counted_reason       LowCardinality(String) DEFAULT '',
    covered_tokens           Array(UInt64) DEFAULT [],
    covered_cost_usd         Nullable(Decimal(38, 12)) DEFAULT NULL CODEC(ZSTD(1)),
    covered_list_cost_usd    Nullable(Decimal(38, 12)) DEFAULT NULL CODEC(ZSTD(1)),
    is_estimate              Bool,
    has_reported_cost        Bool,
    response_id              String CODEC(ZSTD(1)),
    response_key             UInt64 MATERIALIZED if(response_id = '', 0, cityHash64(response_id)),
    status                   LowCardinality(String),
    error_type               LowCardinality(String),
    organization             LowCardinality(String),
    team                     LowCardinality(String),
    user_id                  String CODEC(ZSTD(1)),
    feature                  LowCardinality(String),
    agent_name               LowCardinality(String),
    component                LowCardinality(String),
    tool_name                LowCardinality(String),
    environment              LowCardinality(String),
    session_id               String CODEC(ZSTD(1)),
    version                  UInt64 CODEC(ZSTD(1))
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY toDate(started_at)
ORDER BY (trace_id, span_id)
SETTINGS
    index_granularity = 8192,
    ttl_only_drop_parts = 1,
    min_age_to_force_merge_seconds = 3600,
    min_age_to_force_merge_on_partition_only = 1;
