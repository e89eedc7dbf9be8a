-- link_payers: keeps whom a span names as the payer, for what is spent below it.
-- The same rules as otel_cost/attribution.py, for any span, also one that concerns no model.
-- Grain:     one row per span of an insert that names an execution, an organization, an agent, ...
-- Target:    trace_links, where the row of views/link_readings.sql joins it
-- Source:    otel_traces, on insert, and attribute_names
-- Read by:   views/accounts.sql
-- What the resource names is left out: it holds only where no enclosing span names anything.
CREATE MATERIALIZED VIEW IF NOT EXISTS link_payers
TO trace_links
AS
WITH
    arrayFilter(
        item -> item.1.3 = 'payer',
        arrayMap(
            (name, value) -> (dictGet('attribute_names', ('field', 'rank', 'kind'), name), value),
            mapKeys(SpanAttributes)::Array(String),
            mapValues(SpanAttributes))) AS items,
    arraySort(
        item -> (item.1.1, item.1.2),
        arrayFilter(item -> item.2 != '', arrayMap(
            item -> (
                item.1,
                substringUTF8(trim(replaceRegexpAll(item.2, '[\\x00-\\x1f\\x7f]+', ' ')), 1, 128)),
            items))) AS named,
    arrayFilter((item, number) -> number = 1, named, arrayEnumerateUniq(named.1.1)) AS trusted
SELECT
    TraceId AS trace_id,
    SpanId AS span_id,
    Timestamp AS started_at,
    mapFromArrays(trusted.1.1, trusted.2) AS payer
FROM otel_traces
WHERE TraceId != '' AND SpanId != '' AND notEmpty(trusted);
