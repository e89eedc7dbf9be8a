-- link_spans: keeps which ordinary span stands under which, and whom it names as the payer of what is below it.
-- Grain:     one row per span of an insert that says nothing about a model, a tool or an agent
-- Target:    trace_links
-- Source:    otel_traces, on insert, and attribute_names
-- Read by:   views/accounts.sql, views/executions.sql, views/unsettled_traces.sql
-- All others reach trace_links through views/mark_spans.sql, views/read_spans.sql and views/link_readings.sql.
CREATE MATERIALIZED VIEW IF NOT EXISTS link_spans
TO trace_links
AS
WITH
    arraySort(item -> (item.1, item.2), arrayFilter(item -> item.3 != '', arrayMap(
        pair -> (
            dictGet('attribute_names', 'field', pair.1::LowCardinality(String)),
            dictGet('attribute_names', 'rank', pair.1::LowCardinality(String)),
            substringUTF8(trim(replaceRegexpAll(pair.2::LowCardinality(String), '[\\x00-\\x1f\\x7f]+', ' ')), 1, 128)),
        arrayFilter(
            pair -> dictGet('attribute_names', 'kind', pair.1::LowCardinality(String)) = 'payer',
            CAST(SpanAttributes, 'Array(Tuple(LowCardinality(String), String))'))))) AS payers,
    arrayFilter((item, number) -> number = 1, payers, arrayEnumerateUniq(payers.1)) AS first_payers
SELECT
    TraceId AS trace_id,
    SpanId AS span_id,
    ParentSpanId AS parent_span_id,
    Timestamp AS started_at,
    addNanoseconds(Timestamp, least(Duration, 31536000000000000)) AS ended_at,
    'other' AS span_class,
    StatusCode AS status,
    mapFromArrays(first_payers.1, first_payers.3) AS payer
FROM otel_traces
WHERE TraceId != '' AND SpanId != ''
    AND NOT arrayExists(
        name -> dictGet('attribute_names', 'is_marker', name::LowCardinality(String)),
        mapKeys(SpanAttributes));
