-- trace_links: the shape of each trace, which spans stand above and below a charge.
-- Grain:     one row per span after merges, so readers use FINAL or LIMIT 1 BY
-- Engine:    ReplacingMergeTree, so that a span delivered twice is one row
-- Order key: (trace_id, span_id), because ancestry is asked by trace
-- Retention: none set here, partitions are days
-- Source:    views/link_readings.sql
-- Read by:   views/accounts.sql, views/unsettled_traces.sql, server/refresh_accounts.sql
CREATE TABLE IF NOT EXISTS trace_links
(
    trace_id        String CODEC(ZSTD(1)),
    span_id         String CODEC(ZSTD(1)),
    parent_span_id  String CODEC(ZSTD(1)),
    started_at      DateTime64(9, 'UTC') CODEC(Delta(8), ZSTD(1)),
    ended_at        DateTime64(9, 'UTC') CODEC(Delta(8), ZSTD(1)),
    span_class      LowCardinality(String),
    status          LowCardinality(String),
    inserted_at     DateTime('UTC') DEFAULT now() CODEC(Delta(4), ZSTD(1)),
    INDEX idx_inserted_at inserted_at TYPE minmax GRANULARITY 1
)
ENGINE = ReplacingMergeTree
PARTITION BY toDate(started_at)
ORDER BY (trace_id, span_id)
SETTINGS index_granularity = 8192, ttl_only_drop_parts = 1;
