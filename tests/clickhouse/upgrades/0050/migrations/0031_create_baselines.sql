-- baselines: what is usual for an agent and a feature, hour by hour.
-- Grain:     one row per hour in which executions began, organization, agent and feature, after merges, so readers use FINAL
-- Engine:    ReplacingMergeTree(version, is_deleted): a pass writes each key of a day anew, and deletes those that are gone
-- Order key: the time first, so that days do not overlap and FINAL is cheap
-- Retention: kept
-- Source:    rollups/6_baselines.sql
-- Read by:   views/baseline_quantiles.sql, views/volume_series.sql, views/find_prompt_creep.sql, views/find_retry_storms.sql
-- hour_of_week is 0 to 167 on the organization's clock, Monday first. An execution that runs past midnight (UTC) counts on
-- each of its days with what it did there. failing_executions had a call that failed, whatever became of them. Quantiles are
-- 0.25, 0.5, 0.75, 0.9 and 0.99, near but not exact, and never money: amounts to add up are in cost_usd.
CREATE TABLE IF NOT EXISTS baselines
(
    utc_day             Date CODEC(Delta(2), ZSTD(1)),
    hour                DateTime('UTC') CODEC(Delta(4), ZSTD(1)),
    organization        LowCardinality(String),
    agent_name          LowCardinality(String),
    feature             LowCardinality(String),
    hour_of_week        UInt8,
    executions          UInt64 CODEC(T64, ZSTD(1)),
    killed_executions   UInt64 CODEC(T64, ZSTD(1)),
    error_executions    UInt64 CODEC(T64, ZSTD(1)),
    failing_executions  UInt64 CODEC(T64, ZSTD(1)),
    calls               UInt64 CODEC(T64, ZSTD(1)),
    tool_calls          UInt64 CODEC(T64, ZSTD(1)),
    failed_calls        UInt64 CODEC(T64, ZSTD(1)),
    cost_usd            Nullable(Decimal(38, 12)) CODEC(ZSTD(1)),
    cost_quantiles      AggregateFunction(quantilesTDigest(0.25, 0.5, 0.75, 0.9, 0.99), Float64),
    calls_quantiles     AggregateFunction(quantilesTDigest(0.25, 0.5, 0.75, 0.9, 0.99), UInt64),
    input_quantiles     AggregateFunction(quantilesTDigest(0.25, 0.5, 0.75, 0.9, 0.99), UInt64),
    prompt_quantiles    AggregateFunction(quantilesTDigest(0.25, 0.5, 0.75, 0.9, 0.99), UInt64),
    duration_quantiles  AggregateFunction(quantilesTDigest(0.25, 0.5, 0.75, 0.9, 0.99), Float64),
    version             UInt64 CODEC(ZSTD(1)),
    is_deleted          UInt8 CODEC(ZSTD(1))
)
ENGINE = ReplacingMergeTree(version, is_deleted)
PARTITION BY toYYYYMM(utc_day)
ORDER BY
(
    utc_day,
    hour,
    organization,
    agent_name,
    feature
)
SETTINGS
    index_granularity = 8192,
    min_age_to_force_merge_seconds = 3600,
    min_age_to_force_merge_on_partition_only = 1;
