-- spend_hours: what was spent in each hour, by everything it can be sliced by.
-- Grain:     one row per hour, payer, agent, component, model or tool and price status, after merges, so readers use FINAL
-- Engine:    ReplacingMergeTree(version, is_deleted): a pass writes each key of a day anew, and deletes those that are gone
-- Order key: the time first, so that days do not overlap and FINAL is cheap
-- Retention: kept
-- Source:    rollups/2_spend_hours.sql
-- Read by:   views/spend_hourly.sql, rollups/3_spend_days.sql, rollups/4_user_spend_days.sql
CREATE TABLE IF NOT EXISTS spend_hours
(
    utc_day                Date CODEC(Delta(2), ZSTD(1)),
    hour                   DateTime('UTC') CODEC(Delta(4), ZSTD(1)),
    day                    Date CODEC(Delta(2), ZSTD(1)),
    organization           LowCardinality(String),
    team                   LowCardinality(String),
    user_id                String CODEC(ZSTD(1)),
    feature                LowCardinality(String),
    environment            LowCardinality(String),
    agent_name             LowCardinality(String),
    component              LowCardinality(String),
    kind                   LowCardinality(String),
    provider               LowCardinality(String),
    model                  LowCardinality(String),
    tool_name              LowCardinality(String),
    price_status           LowCardinality(String),
    cost_usd               Nullable(Decimal(38, 12)) CODEC(ZSTD(1)),
    list_cost_usd          Nullable(Decimal(38, 12)) CODEC(ZSTD(1)),
    calls                  UInt64 CODEC(T64, ZSTD(1)),
    tool_calls             UInt64 CODEC(T64, ZSTD(1)),
    failed_calls           UInt64 CODEC(T64, ZSTD(1)),
    calls_with_usage       UInt64 CODEC(T64, ZSTD(1)),
    input_tokens           UInt64 CODEC(T64, ZSTD(1)),
    cache_read_tokens      UInt64 CODEC(T64, ZSTD(1)),
    cache_write_tokens     UInt64 CODEC(T64, ZSTD(1)),
    cache_write_1h_tokens  UInt64 CODEC(T64, ZSTD(1)),
    output_tokens          UInt64 CODEC(T64, ZSTD(1)),
    reasoning_tokens       UInt64 CODEC(T64, ZSTD(1)),
    duration_ns            UInt64 CODEC(T64, ZSTD(1)),
    version                UInt64 CODEC(ZSTD(1)),
    is_deleted             UInt8 CODEC(ZSTD(1))
)
ENGINE = ReplacingMergeTree(version, is_deleted)
PARTITION BY toYYYYMM(utc_day)
ORDER BY
(
    utc_day,
    hour,
    organization,
    team,
    feature,
    environment,
    agent_name,
    component,
    kind,
    provider,
    model,
    tool_name,
    price_status,
    user_id
)
SETTINGS
    index_granularity = 8192,
    min_age_to_force_merge_seconds = 3600,
    min_age_to_force_merge_on_partition_only = 1;
