-- execution_days: what executions cost on the days of a pass, and on the days after them, whose charges may stand under a
-- span of the day before.
-- Grain:     writes every row of these days anew
-- Target:    execution_days
-- Source:    charges FINAL, trace_links FINAL, dropped_days
-- Read by:   Store.roll, and a refreshable view on servers
-- The spans of an execution are those that name it, and where none is named, those of the trace: of the day and of the one
-- before. Where two began or ended at once a hash of the span id decides. Executions that are there and have no charge any
-- more are written as deleted. A day after whose charges were dropped keeps what it has.
INSERT INTO execution_days
(
    utc_day,
    execution_id,
    trace_id,
    charged_from,
    charged_until,
    spanned_from,
    spanned_until,
    has_root,
    status,
    status_at,
    cost_usd,
    list_cost_usd,
    model_calls,
    tool_calls,
    unpriced_calls,
    failed_calls,
    longest_failed_run,
    input_tokens,
    cache_read_tokens,
    output_tokens,
    max_input_tokens,
    first_input_tokens,
    longest_repeat,
    median_growth_tokens,
    models,
    tools,
    agents,
    organization,
    team,
    user_id,
    feature,
    agent_name,
    environment,
    service_name,
    version,
    is_deleted
)
WITH
    days AS
    (
        SELECT DISTINCT arrayJoin([rolling.utc_day, rolling.utc_day + 1]) AS utc_day
        FROM rolling_days AS rolling
        WHERE utc_day NOT IN (SELECT dropped_days.utc_day FROM dropped_days)
    ),
    charged AS
    (
        WITH
            bitShiftLeft(toUInt128(toUnixTimestamp64Nano(charge.started_at)), 64) + cityHash64(span_id) AS began,
            bitShiftLeft(toUInt128(toUnixTimestamp64Nano(charge.ended_at)), 64) + cityHash64(span_id) AS ended
        SELECT
            toDate(charge.started_at) AS utc_day,
            execution_id,
            argMin(trace_id, began) AS trace_id,
            min(charge.started_at) AS charged_from,
            max(charge.ended_at) AS charged_until,
            argMax(charge.status, ended) AS status,
            sumIf(charge.cost_usd, counted) AS cost_usd,
            sumIf(charge.list_cost_usd, counted) AS list_cost_usd,
            countIf(kind = 'model' AND counted) AS model_calls,
            countIf(kind = 'tool' AND counted) AS tool_calls,
            countIf(kind = 'model' AND counted AND isNull(charge.cost_usd)) AS unpriced_calls,
            countIf(counted AND charge.status = 'Error') AS failed_calls,
            arrayMax(arrayMap(
                run -> arrayCount(call -> call.2, run),
                arraySplit(
                    call -> NOT call.2,
                    arraySort(groupArrayIf((began, charge.status = 'Error'), counted))))) AS longest_failed_run,
            sumIf(ifNull(charge.input_tokens, 0), counted) AS input_tokens,
            sumIf(charge.cache_read_tokens, counted) AS cache_read_tokens,
            sumIf(ifNull(charge.output_tokens, 0), counted) AS output_tokens,
            maxIf(ifNull(charge.input_tokens, 0), counted) AS max_input_tokens,
            argMinIf(ifNull(charge.input_tokens, 0), began, counted AND kind = 'model') AS first_input_tokens,
            arraySort(groupArrayIf(
                (began, toInt64(ifNull(charge.input_tokens, 0)), toInt64(ifNull(charge.output_tokens, 0))),
                counted AND kind = 'model' AND charge.status != 'Error')) AS answers,
            arrayMax(arrayMap(
                lag -> arrayMax(arrayMap(
                    run -> arraySum(run),
                    arraySplit(
                        is_like -> NOT is_like,
                        arrayMap(
                            (later, earlier) -> later.3 > 0
                                AND later.2 >= earlier.2
                                AND abs(later.3 - earlier.3) <= greatest(1, 0.1 * earlier.3),
                            arraySlice(answers, lag + 1),
                            arraySlice(answers, 1, length(answers) - lag))))),
                arrayFilter(lag -> lag < length(answers), [1, 2, 3, 4]))) AS longest_repeat,
            arrayReduce(
                'quantileExactLow',
                arrayFilter(
                    growth -> growth > 0,
                    arrayMap(
                        (later, earlier) -> later.2 - earlier.2,
                        arraySlice(answers, 2),
                        arrayPopBack(answers)))) AS median_growth_tokens,
            arraySort(groupUniqArrayIf(model, counted AND model != '')) AS models,
            arraySort(groupUniqArrayIf(tool_name, counted AND tool_name != '')) AS tools,
            arraySort(groupUniqArrayIf(charge.agent_name, counted AND charge.agent_name != '')) AS agents,
            argMinIf(charge.organization, began, charge.organization != '') AS organization,
            argMinIf(charge.team, began, charge.team != '') AS team,
            argMinIf(charge.user_id, began, charge.user_id != '') AS user_id,
            argMinIf(charge.feature, began, charge.feature != '') AS feature,
            argMinIf(charge.agent_name, began, charge.agent_name != '') AS agent_name,
            argMinIf(charge.environment, began, charge.environment != '') AS environment,
            argMin(charge.service_name, began) AS service_name
        FROM charges AS charge FINAL
        WHERE toDate(charge.started_at) IN (SELECT utc_day FROM days)
        GROUP BY
            utc_day,
            execution_id
    ),
    linked AS
    (
        WITH
            bitShiftLeft(toUInt128(parent_span_id = ''), 127) + bitShiftLeft(toUInt128(toUnixTimestamp64Nano(link.ended_at)), 64)
                + cityHash64(span_id) AS last
        SELECT
            arrayJoin([link_day, link_day + 1]) AS utc_day,
            execution_id,
            min(link.started_at) AS spanned_from,
            max(link.ended_at) AS spanned_until,
            max(parent_span_id = '') AS has_root,
            argMax(link.status, last) AS status,
            argMax(link.ended_at, last) AS status_at
        FROM
        (
            SELECT
                toDate(started_at) AS link_day,
                if(payer['execution_id'] != '', payer['execution_id'], trace_id) AS execution_id,
                span_id,
                parent_span_id,
                started_at,
                ended_at,
                status
            FROM trace_links FINAL
            WHERE toDate(started_at) IN (SELECT arrayJoin([utc_day, utc_day - 1]) FROM days)
        ) AS link
        GROUP BY
            utc_day,
            execution_id
    )
SELECT
    utc_day,
    execution_id,
    trace_id,
    charged_from,
    charged_until,
    spanned_from,
    spanned_until,
    has_root,
    status,
    status_at,
    cost_usd,
    list_cost_usd,
    model_calls,
    tool_calls,
    unpriced_calls,
    failed_calls,
    longest_failed_run,
    input_tokens,
    cache_read_tokens,
    output_tokens,
    max_input_tokens,
    first_input_tokens,
    longest_repeat,
    median_growth_tokens,
    models,
    tools,
    agents,
    organization,
    team,
    user_id,
    feature,
    agent_name,
    environment,
    service_name,
    version,
    is_deleted
FROM
(
    SELECT
        charged.utc_day AS utc_day,
        charged.execution_id AS execution_id,
        charged.trace_id AS trace_id,
        charged.charged_from AS charged_from,
        charged.charged_until AS charged_until,
        if(linked.execution_id = '', charged.charged_from, least(charged.charged_from, linked.spanned_from)) AS spanned_from,
        greatest(charged.charged_until, linked.spanned_until) AS spanned_until,
        linked.has_root AS has_root,
        if(linked.execution_id = '', charged.status, linked.status) AS status,
        if(linked.execution_id = '', charged.charged_until, linked.status_at) AS status_at,
        charged.cost_usd AS cost_usd,
        charged.list_cost_usd AS list_cost_usd,
        charged.model_calls AS model_calls,
        charged.tool_calls AS tool_calls,
        charged.unpriced_calls AS unpriced_calls,
        charged.failed_calls AS failed_calls,
        charged.longest_failed_run AS longest_failed_run,
        charged.input_tokens AS input_tokens,
        charged.cache_read_tokens AS cache_read_tokens,
        charged.output_tokens AS output_tokens,
        charged.max_input_tokens AS max_input_tokens,
        charged.first_input_tokens AS first_input_tokens,
        charged.longest_repeat AS longest_repeat,
        charged.median_growth_tokens AS median_growth_tokens,
        charged.models AS models,
        charged.tools AS tools,
        charged.agents AS agents,
        charged.organization AS organization,
        charged.team AS team,
        charged.user_id AS user_id,
        charged.feature AS feature,
        charged.agent_name AS agent_name,
        charged.environment AS environment,
        charged.service_name AS service_name,
        (SELECT max(version) FROM rolling_days) AS version,
        0 AS is_deleted
    FROM charged
    LEFT JOIN linked ON linked.utc_day = charged.utc_day AND linked.execution_id = charged.execution_id
    UNION ALL
    SELECT * REPLACE ((SELECT max(version) FROM rolling_days) AS version, 1 AS is_deleted)
    FROM execution_days FINAL
    WHERE utc_day IN (SELECT utc_day FROM days)
)
ORDER BY is_deleted
LIMIT 1 BY
    utc_day,
    execution_id;
