-- executions: what each agent run cost, and how it went, over every trace that belongs to it.
-- Grain:     one row per execution that has a charge
-- Source:    charges FINAL, trace_links FINAL, decisions FINAL
-- Read by:   queries/top_executions.sql, people
-- A plain view, so exact whatever was delivered twice, late or out of order. cost_usd leaves unpriced_calls out, and is
-- NULL when nothing of the execution could be priced. The spans of an execution are those that name it, and where none
-- is named, those of the trace. It lasts from the first to the last of them, charges included. Its status is that of its
-- root span, of the one that ended last where it has several, and where no root was received, of the span that did.
-- Payer columns take the first value known. killed_reason is the limit or detector for which the guard first refused a
-- call and did not send it (mode enforce), and status is killed then, whatever the root span says.
CREATE OR REPLACE VIEW executions
AS
SELECT
    charge.first_trace_id AS trace_id,
    charge.id AS execution_id,
    charge.cost_usd AS cost_usd,
    charge.model_calls AS model_calls,
    charge.tool_calls AS tool_calls,
    charge.unpriced_calls AS unpriced_calls,
    charge.input_tokens AS input_tokens,
    charge.output_tokens AS output_tokens,
    if(span.id = '', charge.started_at, least(charge.started_at, span.started_at)) AS started_at,
    greatest(charge.ended_at, span.ended_at) AS ended_at,
    multiIf(kill.id != '', 'killed', if(span.id = '', charge.status, span.status) = 'Error', 'error', 'ok') AS status,
    kill.reason AS killed_reason,
    charge.organization AS organization,
    charge.team AS team,
    charge.user_id AS user_id,
    charge.feature AS feature,
    charge.agent_name AS agent_name,
    charge.environment AS environment,
    charge.service_name AS service_name
FROM
(
    SELECT
        execution_id AS id,
        argMin(trace_id, (known.started_at, span_id)) AS first_trace_id,
        sumIf(known.cost_usd, counted) AS cost_usd,
        countIf(kind = 'model' AND counted) AS model_calls,
        countIf(kind = 'tool' AND counted) AS tool_calls,
        countIf(kind = 'model' AND counted AND isNull(known.cost_usd)) AS unpriced_calls,
        sumIf(known.input_tokens, counted) AS input_tokens,
        sumIf(known.output_tokens, counted) AS output_tokens,
        min(known.started_at) AS started_at,
        max(known.ended_at) AS ended_at,
        argMax(known.status, (known.ended_at, span_id)) AS status,
        argMinIf(known.organization, (known.started_at, span_id), known.organization != '') AS organization,
        argMinIf(known.team, (known.started_at, span_id), known.team != '') AS team,
        argMinIf(known.user_id, (known.started_at, span_id), known.user_id != '') AS user_id,
        argMinIf(known.feature, (known.started_at, span_id), known.feature != '') AS feature,
        argMinIf(known.agent_name, (known.started_at, span_id), known.agent_name != '') AS agent_name,
        argMinIf(known.environment, (known.started_at, span_id), known.environment != '') AS environment,
        argMin(known.service_name, (known.started_at, span_id)) AS service_name
    FROM charges AS known FINAL
    GROUP BY id
) AS charge
LEFT JOIN
(
    SELECT
        if(payer['execution_id'] != '', payer['execution_id'], trace_id) AS id,
        min(link.started_at) AS started_at,
        max(link.ended_at) AS ended_at,
        argMax(link.status, (parent_span_id = '', link.ended_at, -toUnixTimestamp64Nano(link.started_at), span_id)) AS status
    FROM trace_links AS link FINAL
    GROUP BY id
) AS span
    ON span.id = charge.id
LEFT JOIN
(
    SELECT
        execution_id AS id,
        argMin(kind, (decided_at, trace_id, span_id, event_number)) AS reason
    FROM decisions FINAL
    WHERE decision = 'deny' AND mode = 'enforce'
    GROUP BY id
) AS kill
    ON kill.id = charge.id;
