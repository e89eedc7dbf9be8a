-- executions: what each agent run cost, and how it went, over every trace that belongs to it.
-- Grain:     one row per execution that has a charge
-- Source:    execution_days FINAL, decisions FINAL
-- Read by:   queries/top_executions.sql, people
-- cost_usd leaves unpriced_calls out, and is NULL when nothing of the execution could be priced. The spans of an execution
-- are those that name it, and where none is named, those of the trace. It lasts from the first to the last of them, charges
-- included. Its status is that of its root span, of the one that ended last where it has several, and where no root was
-- received, of the span that did. Payer columns take the first value known. killed_reason is the limit or detector for which
-- the guard first refused a call and did not send it (mode enforce), and status is killed then, whatever the root span says.
CREATE OR REPLACE VIEW executions
AS
SELECT
    run.first_trace_id AS trace_id,
    run.id AS execution_id,
    run.cost_usd AS cost_usd,
    run.list_cost_usd AS list_cost_usd,
    run.model_calls AS model_calls,
    run.tool_calls AS tool_calls,
    run.unpriced_calls AS unpriced_calls,
    run.failed_calls AS failed_calls,
    run.longest_failed_run AS longest_failed_run,
    run.input_tokens AS input_tokens,
    run.cache_read_tokens AS cache_read_tokens,
    run.output_tokens AS output_tokens,
    run.max_input_tokens AS max_input_tokens,
    run.first_input_tokens AS first_input_tokens,
    run.started_at AS started_at,
    run.ended_at AS ended_at,
    multiIf(kill.id != '', 'killed', run.status = 'Error', 'error', 'ok') AS status,
    kill.reason AS killed_reason,
    run.models AS models,
    run.tools AS tools,
    run.agents AS agents,
    run.organization AS organization,
    run.team AS team,
    run.user_id AS user_id,
    run.feature AS feature,
    run.agent_name AS agent_name,
    run.environment AS environment,
    run.service_name AS service_name
FROM
(
    SELECT
        execution_id AS id,
        argMin(trace_id, charged_from) AS first_trace_id,
        sum(part.cost_usd) AS cost_usd,
        sum(part.list_cost_usd) AS list_cost_usd,
        sum(part.model_calls) AS model_calls,
        sum(part.tool_calls) AS tool_calls,
        sum(part.unpriced_calls) AS unpriced_calls,
        sum(part.failed_calls) AS failed_calls,
        max(part.longest_failed_run) AS longest_failed_run,
        sum(part.input_tokens) AS input_tokens,
        sum(part.cache_read_tokens) AS cache_read_tokens,
        sum(part.output_tokens) AS output_tokens,
        max(part.max_input_tokens) AS max_input_tokens,
        argMinIf(part.first_input_tokens, charged_from, part.model_calls > 0) AS first_input_tokens,
        min(spanned_from) AS started_at,
        max(spanned_until) AS ended_at,
        argMax(part.status, (has_root, status_at)) AS status,
        arraySort(groupUniqArrayArray(part.models)) AS models,
        arraySort(groupUniqArrayArray(part.tools)) AS tools,
        arraySort(groupUniqArrayArray(part.agents)) AS agents,
        argMinIf(part.organization, charged_from, part.organization != '') AS organization,
        argMinIf(part.team, charged_from, part.team != '') AS team,
        argMinIf(part.user_id, charged_from, part.user_id != '') AS user_id,
        argMinIf(part.feature, charged_from, part.feature != '') AS feature,
        argMinIf(part.agent_name, charged_from, part.agent_name != '') AS agent_name,
        argMinIf(part.environment, charged_from, part.environment != '') AS environment,
        argMin(part.service_name, charged_from) AS service_name
    FROM execution_days AS part FINAL
    GROUP BY id
) AS run
LEFT JOIN
(
    SELECT
        execution_id AS id,
        argMin(kind, (decided_at, trace_id, span_id, event_number)) AS reason
    FROM decisions FINAL
    WHERE decision = 'deny' AND mode = 'enforce'
    GROUP BY id
) AS kill
    ON kill.id = run.id;
