-- trace_links: the shape of each trace, which spans stand above and below a charge, and what they say of who pays.
-- Grain:     one row per span after merges, so readers use FINAL or GROUP BY
-- Engine:    AggregatingMergeTree, so that a span delivered twice is one row, and what two views say of it comes together
-- Order key: (trace_id, span_id), because ancestry is asked by trace
-- Retention: none set here, partitions are days
-- Source:    views/link_readings.sql, views/link_payers.sql
-- Read by:   views/accounts.sql, views/executions.sql, views/unsettled_traces.sql, server/recent_traces.sql
-- payer holds what the span itself names, by the name of the column of charges: nothing inherited, nothing of the
-- resource, and most spans name nothing.
CREATE TABLE IF NOT EXISTS trace_links
(
    trace_id        String CODEC(ZSTD(1)),
    span_id         String CODEC(ZSTD(1)),
    parent_span_id  SimpleAggregateFunction(max, String) CODEC(ZSTD(1)),
    started_at      SimpleAggregateFunction(max, DateTime64(9, 'UTC')) CODEC(Delta(8), ZSTD(1)),
    ended_at        SimpleAggregateFunction(max, DateTime64(9, 'UTC')) CODEC(Delta(8), ZSTD(1)),
    span_class      SimpleAggregateFunction(max, LowCardinality(String)),
    status          SimpleAggregateFunction(max, LowCardinality(String)),
    payer           SimpleAggregateFunction(max, Map(String, String)) CODEC(ZSTD(1)),
    inserted_at     SimpleAggregateFunction(max, DateTime('UTC')) DEFAULT now() CODEC(Delta(4), ZSTD(1)),
    INDEX idx_inserted_at inserted_at TYPE minmax GRANULARITY 1
)
ENGINE = AggregatingMergeTree
PARTITION BY toDate(started_at)
ORDER BY (trace_id, span_id)
SETTINGS index_granularity = 8192, ttl_only_drop_parts = 1;
