-- trace_links: each column with the codec that keeps it smallest for its cost, as in charges.
-- Grain:     one row per span, as before
-- Source:    benchmarks/warehouse, docs/warehouse-sizes.md
-- Read by:   everybody who reads trace_links
ALTER TABLE trace_links
    MODIFY COLUMN trace_id CODEC(ZSTD(3)),
    MODIFY COLUMN span_id CODEC(ZSTD(3)),
    MODIFY COLUMN parent_span_id CODEC(ZSTD(3)),
    MODIFY COLUMN payer CODEC(ZSTD(3)),
    MODIFY COLUMN started_at CODEC(T64, ZSTD(1)),
    MODIFY COLUMN ended_at CODEC(T64, ZSTD(1)),
    MODIFY COLUMN span_class CODEC(ZSTD(1)),
    MODIFY COLUMN status CODEC(ZSTD(1));
