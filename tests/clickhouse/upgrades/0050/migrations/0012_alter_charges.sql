-- charges: each column with the codec that keeps it smallest for its cost, measured on two million generated charges.
-- Grain:     one row per billable span, as before
-- Source:    benchmarks/warehouse, docs/warehouse-sizes.md
-- Read by:   everybody who reads charges
-- Parts written before keep their codecs until they are merged. Ids are random, so ZSTD only finds what repeats within a
-- trace, and level 3 finds it faster than level 1. Times are not in order within a trace, so T64 beats Delta. A cost is a
-- multiple of its rate, which GCD finds.
ALTER TABLE charges
    MODIFY COLUMN trace_id CODEC(ZSTD(3)),
    MODIFY COLUMN span_id CODEC(ZSTD(3)),
    MODIFY COLUMN parent_span_id CODEC(ZSTD(3)),
    MODIFY COLUMN execution_id CODEC(ZSTD(3)),
    MODIFY COLUMN response_id CODEC(ZSTD(3)),
    MODIFY COLUMN user_id CODEC(ZSTD(3)),
    MODIFY COLUMN session_id CODEC(ZSTD(3)),
    MODIFY COLUMN started_at CODEC(T64, ZSTD(1)),
    MODIFY COLUMN ended_at CODEC(T64, ZSTD(1)),
    MODIFY COLUMN cost_usd CODEC(GCD, ZSTD(1)),
    MODIFY COLUMN list_cost_usd CODEC(GCD, ZSTD(1)),
    MODIFY COLUMN covered_cost_usd CODEC(GCD, ZSTD(1)),
    MODIFY COLUMN covered_list_cost_usd CODEC(GCD, ZSTD(1)),
    MODIFY COLUMN service_name CODEC(ZSTD(1)),
    MODIFY COLUMN scope_name CODEC(ZSTD(1)),
    MODIFY COLUMN kind CODEC(ZSTD(1)),
    MODIFY COLUMN span_class CODEC(ZSTD(1)),
    MODIFY COLUMN provider CODEC(ZSTD(1)),
    MODIFY COLUMN model CODEC(ZSTD(1)),
    MODIFY COLUMN request_model CODEC(ZSTD(1)),
    MODIFY COLUMN operation CODEC(ZSTD(1)),
    MODIFY COLUMN service_tier CODEC(ZSTD(1)),
    MODIFY COLUMN usage_marks CODEC(ZSTD(1)),
    MODIFY COLUMN price_status CODEC(ZSTD(1)),
    MODIFY COLUMN price_version CODEC(ZSTD(1)),
    MODIFY COLUMN price_model CODEC(ZSTD(1)),
    MODIFY COLUMN counted CODEC(ZSTD(1)),
    MODIFY COLUMN not_counted_reason CODEC(ZSTD(1)),
    MODIFY COLUMN covered_tokens CODEC(ZSTD(1)),
    MODIFY COLUMN is_estimate CODEC(ZSTD(1)),
    MODIFY COLUMN has_reported_cost CODEC(ZSTD(1)),
    MODIFY COLUMN response_key CODEC(ZSTD(1)),
    MODIFY COLUMN status CODEC(ZSTD(1)),
    MODIFY COLUMN error_type CODEC(ZSTD(1)),
    MODIFY COLUMN organization CODEC(ZSTD(1)),
    MODIFY COLUMN team CODEC(ZSTD(1)),
    MODIFY COLUMN feature CODEC(ZSTD(1)),
    MODIFY COLUMN agent_name CODEC(ZSTD(1)),
    MODIFY COLUMN component CODEC(ZSTD(1)),
    MODIFY COLUMN tool_name CODEC(ZSTD(1)),
    MODIFY COLUMN environment CODEC(ZSTD(1));
