-- read_decisions: keeps each decision of the guard, whichever span tells it.
-- Grain:     one row per event of an insert that is a decision
-- Target:    decisions
-- Source:    otel_traces, on insert, and attribute_names
-- Read by:   views/executions.sql, queries/decisions.sql, queries/trace_decisions.sql
-- Who pays is what the event itself names, else its span, else the resource. The events are those of
-- otel_cost/attributes.py. Nearly all spans have none, and are left out before anything else is looked at.
CREATE MATERIALIZED VIEW IF NOT EXISTS read_decisions
TO decisions
AS
WITH
    told AS
    (
        SELECT
            TraceId,
            SpanId,
            ServiceName,
            SpanAttributes,
            ResourceAttributes,
            Events.Timestamp AS times,
            Events.Name AS names,
            Events.Attributes AS events
        FROM otel_traces
        WHERE hasAny(Events.Name, [
            'otel_cost.refused', 'otel_cost.warned', 'otel_cost.reminded', 'otel_cost.downgraded', 'otel_cost.clamped',
            'otel_cost.wrap_up', 'otel_cost.approved'])
            AND TraceId != '' AND SpanId != ''
    ),
    decided AS
    (
        SELECT
            TraceId,
            SpanId,
            ServiceName,
            decided_at,
            number,
            event,
            transform(
                toString(name),
                [
                    'otel_cost.refused', 'otel_cost.warned', 'otel_cost.reminded', 'otel_cost.downgraded',
                    'otel_cost.clamped', 'otel_cost.wrap_up', 'otel_cost.approved'],
                ['deny', 'warn', 'remind', 'downgrade', 'clamp', 'wrap_up', 'approve'],
                '') AS decision,
            arrayFilter(item -> item.3.3 = 'payer' AND item.2 != '', arrayMap(
                (name, value, source) -> (
                    source,
                    substringUTF8(trim(replaceRegexpAll(value, '[\\x00-\\x1f\\x7f]+', ' ')), 1, 128),
                    dictGet('attribute_names', ('field', 'rank', 'kind'), name)),
                arrayConcat(mapKeys(event), mapKeys(SpanAttributes), mapKeys(ResourceAttributes))::Array(String),
                arrayConcat(mapValues(event), mapValues(SpanAttributes), mapValues(ResourceAttributes)),
                arrayConcat(
                    arrayWithConstant(length(event), 1),
                    arrayWithConstant(length(SpanAttributes), 2),
                    arrayWithConstant(length(ResourceAttributes), 3)))) AS items,
            arraySort(item -> (item.3.1, item.1, item.3.2), items) AS ranked,
            arrayFilter((item, nth) -> nth = 1, ranked, arrayEnumerateUniq(ranked.3.1)) AS trusted,
            mapFromArrays(trusted.3.1, trusted.2) AS payer
        FROM told
        ARRAY JOIN
            times AS decided_at,
            names AS name,
            events AS event,
            arrayEnumerate(names) AS number
    )
SELECT
    decided_at,
    TraceId AS trace_id,
    SpanId AS span_id,
    number AS event_number,
    if(payer['execution_id'] != '', payer['execution_id'], TraceId) AS execution_id,
    decision,
    substringUTF8(event['otel_cost.kind'], 1, 128) AS kind,
    substringUTF8(event['otel_cost.mode'], 1, 128) AS mode,
    substringUTF8(event['otel_cost.scope'], 1, 256) AS scope,
    toDecimal128OrNull(event['otel_cost.limit_usd'], 12) AS limit_usd,
    toDecimal128OrNull(event['otel_cost.spent_usd'], 12) AS spent_usd,
    toDecimal128OrNull(event['otel_cost.reserved_usd'], 12) AS reserved_usd,
    toDecimal128OrNull(event['otel_cost.asked_usd'], 12) AS asked_usd,
    substringUTF8(event['otel_cost.reason'], 1, 1024) AS reason,
    substringUTF8(event['otel_cost.top_components'], 1, 1024) AS top_components,
    substringUTF8(event['otel_cost.model'], 1, 256) AS model,
    ServiceName AS service_name,
    payer['organization'] AS organization,
    payer['team'] AS team,
    payer['user_id'] AS user_id,
    payer['feature'] AS feature,
    payer['agent_name'] AS agent_name,
    payer['component'] AS component,
    payer['environment'] AS environment,
    payer['session_id'] AS session_id
FROM decided
WHERE decision != '';
