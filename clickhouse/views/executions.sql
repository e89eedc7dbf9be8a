-- executions: what each agent run cost, over every trace that belongs to it.
-- Grain:     one row per execution
-- Source:    charges FINAL
-- Read by:   queries/top_executions.sql, people
-- A plain view, so exact whatever was delivered twice, late or out of order. cost_usd leaves unpriced_calls out, and is
-- NULL when nothing of the execution could be priced. It lasts from its first charge to the end of its last, and is in
-- error when the charge that ended last is. Payer columns take the first value known.
CREATE OR REPLACE VIEW executions
AS
SELECT
    argMin(charge.trace_id, charge.started_at) AS trace_id,
    charge.execution_id AS execution_id,
    sumIf(charge.cost_usd, charge.counted) AS cost_usd,
    countIf(charge.kind = 'model' AND charge.counted) AS model_calls,
    countIf(charge.kind = 'tool' AND charge.counted) AS tool_calls,
    countIf(charge.kind = 'model' AND charge.counted AND isNull(charge.cost_usd)) AS unpriced_calls,
    sumIf(charge.input_tokens, charge.counted) AS input_tokens,
    sumIf(charge.output_tokens, charge.counted) AS output_tokens,
    min(charge.started_at) AS started_at,
    max(charge.ended_at) AS ended_at,
    if(argMax(charge.status, (charge.ended_at, charge.span_id)) = 'Error', 'error', 'ok') AS status,
    '' AS killed_reason,
    argMinIf(charge.organization, charge.started_at, charge.organization != '') AS organization,
    argMinIf(charge.team, charge.started_at, charge.team != '') AS team,
    argMinIf(charge.user_id, charge.started_at, charge.user_id != '') AS user_id,
    argMinIf(charge.feature, charge.started_at, charge.feature != '') AS feature,
    argMinIf(charge.agent_name, charge.started_at, charge.agent_name != '') AS agent_name,
    argMinIf(charge.environment, charge.started_at, charge.environment != '') AS environment,
    argMin(charge.service_name, charge.started_at) AS service_name
FROM charges AS charge FINAL
GROUP BY charge.execution_id;
