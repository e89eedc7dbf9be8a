-- mark_spans: picks the spans that say something about a model, a tool or an agent, whatever convention they are written in.
-- Grain:     one row per such span of an insert
-- Target:    marked_spans (kept nowhere, passed on to readings)
-- Source:    otel_traces, on insert, and attribute_names
-- Read by:   views/read_spans.sql
-- All others go straight to trace_links (views/link_spans.sql). A span that claims to last longer than a year lasts a year.
CREATE MATERIALIZED VIEW IF NOT EXISTS mark_spans
TO marked_spans
AS
WITH
    <payers of link_spans>
SELECT
    TraceId AS trace_id,
    SpanId AS span_id,
    ParentSpanId AS parent_span_id,
    Timestamp AS started_at,
    addNanoseconds(Timestamp, least(Duration, 31536000000000000)) AS ended_at,
    ServiceName AS service_name,
    ScopeName AS scope_name,
    ScopeVersion AS scope_version,
    StatusCode AS status,
    arrayFirst(type -> type != '', arrayMap(event -> event['exception.type'], Events.Attributes)) AS exception_type,
    SpanAttributes AS attributes,
    ResourceAttributes AS resource_attributes,
    mapFromArrays(first_payers.1, first_payers.3) AS own_payer
FROM otel_traces
WHERE TraceId != '' AND SpanId != ''
    AND arrayExists(
        name -> dictGet('attribute_names', 'is_marker', name::LowCardinality(String)),
        mapKeys(SpanAttributes));
