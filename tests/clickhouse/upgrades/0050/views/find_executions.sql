-- find_executions: executions that went wrong: they cost too much, did the same again and again, failed again and again, or
-- their prompts grew too fast.
-- Grain:     one row per execution and kind of finding
-- Source:    views/recent_executions.sql, views/execution_norms.sql, anomaly_settings
-- Read by:   views/findings.sql
-- One view, because reading the executions is what takes time. Of executions that ended within watch_days:
-- execution_cost: it cost more than execution_factor times the exact median of the other executions (itself left out) of its
--   agent and feature that ended within baseline_days, of which there must be min_executions. Exactly so many times is none.
-- execution_maximum: it cost more than max_execution_usd, or called models more than max_execution_calls times.
-- loop: loop_repeats model calls in a row were each like the call one to four before, see execution_days.
-- retry_storm: retry_failures calls in a row failed.
-- context_growth: of eight calls or more, both its median step from prompt to prompt and its mean step are more than
--   growth_factor times those usual for its agent and feature, and its largest prompt is of growth_min_tokens. How far a
--   prompt has grown in all says nothing: those of healthy runs grow 12.7 times at the median.
CREATE OR REPLACE VIEW find_executions
AS
WITH
    judged AS
    (
        SELECT
            run.execution_id AS execution_id,
            run.organization AS organization,
            run.team AS team,
            run.feature AS feature,
            run.agent_name AS agent_name,
            arrayStringConcat(run.models, ', ') AS model,
            run.started_at AS started_at,
            run.ended_at AS ended_at,
            concat(
                if(run.worker = '', 'agents without a name', run.worker),
                if(run.feature = '', '', concat(' for ', run.feature))) AS whose,
            run.cost_usd AS cost_usd,
            ifNull(run.cost_usd, 0) AS known_usd,
            ifNull(norm.others_median_usd, 0) AS usual_usd,
            run.model_calls AS model_calls,
            run.tool_calls AS tool_calls,
            run.failed_calls AS failed_calls,
            run.longest_repeat AS longest_repeat,
            run.longest_failed_run AS longest_failed_run,
            run.max_input_tokens AS max_input_tokens,
            run.median_growth_tokens AS median_growth_tokens,
            norm.priced_executions AS priced_executions,
            norm.median_growth_tokens AS usual_growth_tokens,
            run.mean_growth_tokens AS mean_growth_tokens,
            norm.mean_growth_tokens AS usual_mean_growth_tokens,
            setting.baseline_days AS baseline_days,
            setting.max_execution_usd AS max_execution_usd,
            setting.max_execution_calls AS max_execution_calls,
            setting.loop_repeats AS loop_repeats,
            setting.retry_failures AS retry_failures,
            norm.priced_executions > setting.min_executions
                AND usual_usd > 0
                AND known_usd > setting.execution_factor * usual_usd AS is_costly,
            ifNull(run.cost_usd > setting.max_execution_usd, false) AS is_beyond_usd,
            ifNull(run.model_calls > setting.max_execution_calls, false) AS is_beyond_calls,
            run.longest_repeat >= setting.loop_repeats AS is_loop,
            run.longest_failed_run >= setting.retry_failures AS is_storm,
            run.model_calls >= 8
                AND norm.long_executions > setting.min_executions
                AND run.median_growth_tokens > setting.growth_factor * norm.median_growth_tokens
                AND run.mean_growth_tokens > setting.growth_factor * norm.mean_growth_tokens
                AND run.max_input_tokens >= setting.growth_min_tokens AS is_growing
        FROM recent_executions AS run
        LEFT JOIN execution_norms AS norm
            ON norm.worker = run.worker AND norm.feature = run.feature
        CROSS JOIN anomaly_settings AS setting
        WHERE run.is_watched
            AND (is_costly OR is_beyond_usd OR is_beyond_calls OR is_loop OR is_storm OR is_growing)
    )
SELECT
    arrayJoin(arrayFilter(
        finding -> finding.1,
        [
            (
                is_costly,
                'execution_cost',
                CAST(known_usd - usual_usd, 'Nullable(Decimal(38, 12))'),
                CAST(usual_usd, 'Decimal(38, 12)'),
                CAST(known_usd, 'Decimal(38, 12)'),
                'USD',
                format(
                    concat(
                        'it cost ${}, {} times the ${} that the other {} executions of {} cost at the median of {} ',
                        'days ({} model calls, {} tool calls)'),
                    toString(round(known_usd, 6)),
                    toString(round(toFloat64(known_usd) / greatest(toFloat64(usual_usd), 1e-12), 1)),
                    toString(round(usual_usd, 6)),
                    toString(greatest(priced_executions, 1) - 1),
                    whose,
                    toString(baseline_days),
                    toString(model_calls),
                    toString(tool_calls))),
            (
                is_beyond_usd,
                'execution_maximum',
                CAST(known_usd, 'Nullable(Decimal(38, 12))'),
                CAST(ifNull(max_execution_usd, 0), 'Decimal(38, 12)'),
                CAST(known_usd, 'Decimal(38, 12)'),
                'USD',
                format(
                    'it cost ${}, more than the ${} that any execution may cost',
                    toString(round(known_usd, 6)),
                    toString(ifNull(max_execution_usd, 0)))),
            (
                is_beyond_calls AND NOT is_beyond_usd,
                'execution_maximum',
                CAST(cost_usd, 'Nullable(Decimal(38, 12))'),
                CAST(ifNull(max_execution_calls, 0), 'Decimal(38, 12)'),
                CAST(model_calls, 'Decimal(38, 12)'),
                'calls',
                format(
                    'it made {} model calls, more than the {} that any execution may make',
                    toString(model_calls),
                    toString(ifNull(max_execution_calls, 0)))),
            (
                is_loop,
                'loop',
                CAST(cost_usd * longest_repeat / greatest(model_calls, 1), 'Nullable(Decimal(38, 12))'),
                CAST(loop_repeats, 'Decimal(38, 12)'),
                CAST(longest_repeat, 'Decimal(38, 12)'),
                'calls',
                format(
                    concat(
                        '{} of its {} model calls, in a row, repeated the one to four before: answers of the same ',
                        'length to prompts that only grew, where fewer than {} are usual'),
                    toString(longest_repeat),
                    toString(model_calls),
                    toString(loop_repeats))),
            (
                is_storm,
                'retry_storm',
                CAST(cost_usd, 'Nullable(Decimal(38, 12))'),
                CAST(retry_failures, 'Decimal(38, 12)'),
                CAST(longest_failed_run, 'Decimal(38, 12)'),
                'calls',
                format(
                    '{} calls in a row failed ({} in all), where fewer than {} are usual',
                    toString(longest_failed_run),
                    toString(failed_calls),
                    toString(retry_failures))),
            (
                is_growing,
                'context_growth',
                CAST(if(isNull(cost_usd), NULL, greatest(known_usd - usual_usd, 0)), 'Nullable(Decimal(38, 12))'),
                CAST(usual_growth_tokens, 'Decimal(38, 12)'),
                CAST(median_growth_tokens, 'Decimal(38, 12)'),
                'tokens',
                format(
                    concat(
                        'its prompts grew by {} tokens a call at the median ({} on average), to {} tokens, where ',
                        'those of {} grow by {} ({})'),
                    toString(median_growth_tokens),
                    toString(mean_growth_tokens),
                    toString(max_input_tokens),
                    whose,
                    toString(usual_growth_tokens),
                    toString(usual_mean_growth_tokens)))
        ])) AS told,
    told.2 AS kind,
    concat('execution:', execution_id) AS subject,
    organization,
    team,
    feature,
    agent_name,
    model,
    told.3 AS stake_usd,
    toNullable(told.4) AS expected,
    told.5 AS seen,
    told.6 AS unit,
    told.7 AS reason,
    concat(
        'SELECT started_at, kind, model, tool_name, status, input_tokens, output_tokens, cost_usd FROM charges FINAL ',
        'WHERE execution_id = ? ORDER BY started_at')
        AS evidence,
    execution_id AS evidence_about,
    started_at AS first_seen,
    ended_at AS last_seen
FROM judged;
