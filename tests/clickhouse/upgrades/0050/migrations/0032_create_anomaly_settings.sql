-- anomaly_settings: where the unusual begins.
-- Grain:     one row
-- Engine:    MergeTree, replaced as a whole when the policy changes
-- Order key: none, it is read whole
-- Retention: kept, and replaced with the policy
-- Source:    the section anomalies of the policy, written by `otel-cost migrate`, `up` and `import`
-- Read by:   views/find_*.sql
-- Without a row nothing is found. docs/anomalies.md says what each one means.
CREATE TABLE IF NOT EXISTS anomaly_settings
(
    watch_days             UInt16,
    baseline_days          UInt16,
    min_executions         UInt32,
    execution_factor       Decimal(18, 6),
    max_execution_usd      Nullable(Decimal(38, 12)),
    max_execution_calls    Nullable(UInt64),
    volume_score           Float64,
    volume_factor          Float64,
    volume_min_executions  UInt64,
    simple_input_tokens    UInt64,
    simple_output_tokens   UInt64,
    simple_min_executions  UInt64,
    loop_repeats           UInt64,
    retry_failures         UInt64,
    retry_failed_ratio     Float64,
    retry_min_calls        UInt64,
    growth_factor          Float64,
    growth_min_tokens      UInt64,
    creep_factor           Float64,
    creep_min_tokens       UInt64,
    routing_points         Float64,
    routing_min_calls      UInt64,
    unowned_usd            Decimal(38, 12),
    warning_usd            Decimal(38, 12),
    critical_usd           Decimal(38, 12)
)
ENGINE = MergeTree
ORDER BY tuple();
