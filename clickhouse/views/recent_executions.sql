-- recent_executions: the executions that findings are about: of the days that are watched, and of those they are compared with.
-- Grain:     one row per execution
-- Source:    execution_days FINAL
-- Read by:   views/execution_norms.sql, views/find_*.sql
-- As views/executions.sql, of a bounded time, and only what findings need. is_watched tells whether it ended within
-- watch_days, is_norm whether it is one that others are compared with. worker is the agent's name, or the service's where it
-- has none. mean_growth_tokens is how much a prompt grew a call, from the first to the largest.
CREATE OR REPLACE VIEW recent_executions
AS
SELECT
    run.id AS execution_id,
    run.started_at AS started_at,
    run.ended_at AS ended_at,
    run.ended_at >= (SELECT at FROM anomaly_clock) - toIntervalDay((SELECT watch_days FROM anomaly_settings)) AS is_watched,
    run.ended_at >= (SELECT at FROM anomaly_clock) - toIntervalDay((SELECT baseline_days FROM anomaly_settings)) AS is_norm,
    run.status AS status,
    run.cost_usd AS cost_usd,
    run.model_calls AS model_calls,
    run.tool_calls AS tool_calls,
    run.unpriced_calls AS unpriced_calls,
    run.failed_calls AS failed_calls,
    run.longest_failed_run AS longest_failed_run,
    run.longest_repeat AS longest_repeat,
    run.input_tokens AS input_tokens,
    run.output_tokens AS output_tokens,
    run.max_input_tokens AS max_input_tokens,
    run.first_input_tokens AS first_input_tokens,
    run.median_growth_tokens AS median_growth_tokens,
    intDiv(run.max_input_tokens - least(run.first_input_tokens, run.max_input_tokens), greatest(run.model_calls, 1))
        AS mean_growth_tokens,
    run.models AS models,
    run.organization AS organization,
    run.team AS team,
    run.feature AS feature,
    run.agent_name AS agent_name,
    if(run.agent_name = '', run.service_name, run.agent_name) AS worker
FROM
(
    SELECT
        execution_id AS id,
        sum(part.cost_usd) AS cost_usd,
        sum(part.model_calls) AS model_calls,
        sum(part.tool_calls) AS tool_calls,
        sum(part.unpriced_calls) AS unpriced_calls,
        sum(part.failed_calls) AS failed_calls,
        max(part.longest_failed_run) AS longest_failed_run,
        max(part.longest_repeat) AS longest_repeat,
        sum(part.input_tokens) AS input_tokens,
        sum(part.output_tokens) AS output_tokens,
        max(part.max_input_tokens) AS max_input_tokens,
        argMinIf(part.first_input_tokens, charged_from, part.model_calls > 0) AS first_input_tokens,
        max(part.median_growth_tokens) AS median_growth_tokens,
        min(spanned_from) AS started_at,
        max(spanned_until) AS ended_at,
        argMax(part.status, (has_root, status_at)) AS status,
        arraySort(groupUniqArrayArray(part.models)) AS models,
        argMinIf(part.organization, charged_from, part.organization != '') AS organization,
        argMinIf(part.team, charged_from, part.team != '') AS team,
        argMinIf(part.feature, charged_from, part.feature != '') AS feature,
        argMinIf(part.agent_name, charged_from, part.agent_name != '') AS agent_name,
        argMin(part.service_name, charged_from) AS service_name
    FROM execution_days AS part FINAL
    WHERE utc_day <= toDate((SELECT at FROM anomaly_clock)) + 1
        AND utc_day >= toDate((SELECT at FROM anomaly_clock))
            - (SELECT greatest(watch_days, baseline_days) + 2 FROM anomaly_settings)
    GROUP BY id
) AS run
WHERE run.ended_at <= (SELECT at FROM anomaly_clock) + INTERVAL 1 DAY;
