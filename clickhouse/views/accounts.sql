-- accounts: which spans of some traces count, for how much, and who pays, where that is not what charges says already.
-- The rules of docs/architecture.md, the same as otel_cost/accounting.py, and of otel_cost/attribution.py for the payer.
-- Parameters: trace_ids Array(String), the traces to decide, rivals Array(String), other traces that hold a record of
--             one of their responses, looked at and left alone, first_day and last_day Date, between which their spans are
-- Grain:      one row per span whose counted, reason, amount or payer changes, as a later version of its charge
-- Source:     charges, trace_links
-- Read by:    queries/account_traces.sql, server/refresh_accounts.sql
-- Steps:      ranked to matched (records of one call, in recognised those of one id), climbing (every span with each span
--             above it, and whom they name, the nearest first), then per span what stands below it and whether a span above
--             already holds it
-- A version is the time a pass began, found out before it looks at any table, so that of two passes at once the one that
-- saw less never wins. It leaves alone what another pass that began later has decided.
-- Columns are named at each step and only where needed: finding out what a long query means takes most of its time.
CREATE OR REPLACE VIEW accounts
AS
WITH RECURSIVE
    ranked AS
    (
        SELECT
            trace_id,
            span_id,
            started_at,
            ended_at,
            scope_name,
            span_class,
            request_model,
            response_id,
            isNotNull(input_tokens) AS has_usage,
            has_usage OR has_reported_cost AS has_amount,
            arrayMap((amount, covered) -> amount + covered, [
                    ifNull(input_tokens, 0), ifNull(output_tokens, 0), cache_read_tokens, cache_write_tokens,
                    cache_write_1h_tokens, reasoning_tokens
                ], arrayResize(covered_tokens, 6)) AS tokens,
            if(empty(covered_tokens), cost_usd, ifNull(cost_usd, 0) + covered_cost_usd) AS own_cost_usd,
            if(empty(covered_tokens), list_cost_usd, ifNull(list_cost_usd, 0) + covered_list_cost_usd) AS own_list_cost_usd,
            (
                span_class = 'aggregate',
                NOT has_amount,
                is_estimate,
                if(has_usage, -arrayCount(amount -> amount > 0, [
                    tokens[3], tokens[4], tokens[5], tokens[6], audio_input_tokens, audio_output_tokens]), 1),
                -toUnixTimestamp64Nano(started_at),
                toUnixTimestamp64Nano(ended_at),
                trace_id,
                span_id
            ) AS best_first,
            lower(arrayElement(splitByChar('/', if(price_model != '', price_model, model)), -1)) AS model_key,
            if(
                span_class = 'tool',
                ('tool', response_id, trace_id, tool_name),
                ('', response_id, if(response_id = '', trace_id, ''), if(response_id = '', span_id, ''))) AS response,
            if(
                span_class = 'tool',
                row_number() OVER (PARTITION BY response, scope_name ORDER BY started_at, span_id),
                1) AS number_of_response,
            tool_name
        FROM charges FINAL
        WHERE (trace_id IN {trace_ids:Array(String)} OR trace_id IN {rivals:Array(String)})
            AND toDate(started_at) BETWEEN {first_day:Date} AND {last_day:Date}
    ),
    recognised AS
    (
        SELECT
            trace_id,
            span_id,
            started_at,
            ended_at,
            scope_name,
            span_class,
            request_model,
            response_id,
            has_usage,
            has_amount,
            tokens,
            own_cost_usd,
            own_list_cost_usd,
            best_first,
            (trace_id, span_id, started_at, ended_at, model_key, has_usage, tokens[1], tokens[2]) AS record,
            first_value(record) OVER (PARTITION BY response, number_of_response ORDER BY best_first) AS best,
            first_value(record) OVER (PARTITION BY response, number_of_response, model_key ORDER BY best_first)
                AS best_of_model,
            row_number() OVER (
                PARTITION BY response, number_of_response, model_key, has_usage, tokens[1], tokens[2]
                ORDER BY best_first) AS number_of_amount,
            response_id != '' AND if(
                span_class = 'tool',
                best.2 != span_id AND best.3 <= ended_at AND started_at <= best.4,
                number_of_amount > 1 OR arrayExists(
                    other -> (other.1, other.2) != (trace_id, span_id) AND (other.5 = model_key)
                        + (NOT other.6 OR NOT has_usage OR (other.7, other.8) = (tokens[1], tokens[2]))
                        + (other.3 <= ended_at AND started_at <= other.4) >= 2,
                    [best, best_of_model])) AS is_same_response,
            NOT is_same_response AND if(span_class = 'tool', tool_name != '', span_class = 'model' AND has_usage) AS has_shape,
            if(
                span_class = 'tool',
                (trace_id, 'tool', tool_name, 0, 0),
                (trace_id, '', model_key, tokens[1], tokens[2])) AS shape
        FROM ranked
    ),
    numbered AS
    (
        SELECT
            trace_id,
            span_id,
            started_at,
            ended_at,
            scope_name,
            span_class,
            request_model,
            response_id,
            has_usage,
            has_amount,
            tokens,
            own_cost_usd,
            own_list_cost_usd,
            best_first,
            is_same_response,
            has_shape,
            shape,
            row_number() OVER (PARTITION BY has_shape, shape, scope_name ORDER BY started_at, span_id) AS number_in_scope
        FROM recognised
    ),
    matched AS
    (
        SELECT
            trace_id,
            span_id,
            span_class,
            has_usage,
            has_amount,
            tokens,
            own_cost_usd,
            own_list_cost_usd,
            first_value((started_at, ended_at, response_id, span_id)) OVER (
                PARTITION BY has_shape, shape, number_in_scope ORDER BY best_first) AS best,
            maxIf(toUnixTimestamp64Nano(started_at), startsWith(scope_name, 'logfire') AND has_usage AND started_at = ended_at)
                OVER (PARTITION BY trace_id, scope_name, request_model) AS last_log,
            multiIf(
                is_same_response, 'duplicate_response_id',
                has_shape AND best.4 != span_id AND best.1 <= ended_at AND started_at <= best.2
                    AND (best.3 = '' OR response_id = '' OR best.3 = response_id), 'duplicate_call',
                startsWith(scope_name, 'logfire') AND NOT has_amount AND last_log >= toUnixTimestamp64Nano(started_at),
                    'usage_on_log',
                '') AS dropped
        FROM numbered
    ),
    climbing AS
    (
        SELECT
            trace_id,
            span_id,
            span_id AS above_id,
            parent_span_id AS next_id,
            span_class = 'aggregate' AS has_crossed,
            true AS is_covering,
            [span_id] AS path,
            payer
        FROM trace_links FINAL
        WHERE trace_id IN {trace_ids:Array(String)}
            AND toDate(started_at) BETWEEN {first_day:Date} AND {last_day:Date}
            AND span_class != 'other'
        UNION ALL
        SELECT
            climbing.trace_id,
            climbing.span_id,
            link.span_id AS above_id,
            link.parent_span_id AS next_id,
            climbing.has_crossed OR link.span_class IN ('tool', 'aggregate') AS has_crossed,
            link.span_class != 'tool' AND NOT (link.span_class = 'model' AND climbing.has_crossed) AS is_covering,
            arrayPushBack(climbing.path, link.span_id) AS path,
            mapUpdate(link.payer, climbing.payer) AS payer
        FROM climbing
        INNER JOIN
        (
            SELECT
                trace_id,
                span_id,
                parent_span_id,
                span_class,
                payer
            FROM trace_links FINAL
            WHERE trace_id IN {trace_ids:Array(String)}
                AND toDate(started_at) BETWEEN {first_day:Date} AND {last_day:Date}
        ) AS link
            ON link.trace_id = climbing.trace_id AND link.span_id = climbing.next_id
        WHERE climbing.next_id != '' AND length(climbing.path) < 1000 AND NOT has(climbing.path, climbing.next_id)
    ),
    paired AS
    (
        SELECT
            matched.trace_id AS trace_id,
            matched.span_id AS span_id,
            matched.span_class AS span_class,
            matched.has_usage AS has_usage,
            matched.has_amount AS has_amount,
            matched.tokens AS tokens,
            matched.own_cost_usd AS own_cost_usd,
            matched.own_list_cost_usd AS own_list_cost_usd,
            matched.dropped AS dropped,
            climbing.above_id AS above_id,
            climbing.is_covering AND (matched.dropped = '' OR is_self) AS is_covering,
            length(climbing.path) = 1 AS is_self,
            argMax(climbing.payer, length(climbing.path)) OVER (PARTITION BY matched.trace_id, matched.span_id) AS payer,
            max(is_self AND matched.dropped = '') OVER (PARTITION BY matched.trace_id, climbing.above_id) AS is_above_kept,
            max(matched.has_amount AND NOT is_self AND climbing.is_covering AND matched.dropped = '')
                OVER (PARTITION BY matched.trace_id, climbing.above_id) AS has_amount_below_above
        FROM climbing
        INNER JOIN matched ON matched.trace_id = climbing.trace_id AND matched.span_id = climbing.span_id
    ),
    leafed AS
    (
        SELECT
            trace_id,
            span_id,
            span_class,
            has_usage,
            has_amount,
            tokens,
            own_cost_usd,
            own_list_cost_usd,
            dropped,
            above_id,
            is_self,
            payer,
            maxIf(has_amount_below_above, is_self) OVER (PARTITION BY trace_id, span_id) AS has_amount_below,
            has_amount AND NOT is_self AND NOT has_amount_below AS is_leaf
        FROM paired
        WHERE is_covering AND (is_above_kept OR is_self)
    ),
    summed AS
    (
        SELECT
            trace_id,
            span_id,
            span_class,
            has_usage,
            has_amount,
            tokens,
            own_cost_usd,
            own_list_cost_usd,
            dropped,
            above_id,
            is_self,
            payer,
            countIf(is_leaf) OVER (PARTITION BY trace_id, above_id) AS leaves,
            sumForEachIf(tokens, is_leaf) OVER (PARTITION BY trace_id, above_id) AS leaf_tokens,
            sumIf(ifNull(own_cost_usd, 0), is_leaf) OVER (PARTITION BY trace_id, above_id) AS leaf_cost_usd,
            sumIf(ifNull(own_list_cost_usd, 0), is_leaf) OVER (PARTITION BY trace_id, above_id) AS leaf_list_cost_usd,
            countIf(is_leaf AND isNull(own_cost_usd)) OVER (PARTITION BY trace_id, above_id) AS unpriced_leaves,
            is_self AND dropped = '' AND has_amount AND if(
                has_usage,
                tokens[1] >= leaf_tokens[1] AND tokens[2] >= leaf_tokens[2],
                ifNull(own_cost_usd >= leaf_cost_usd, false)) AS holds
        FROM leafed
    ),
    held AS
    (
        SELECT
            trace_id,
            span_id,
            span_class,
            has_usage,
            has_amount,
            tokens,
            own_cost_usd,
            own_list_cost_usd,
            dropped,
            is_self,
            payer,
            leaves,
            leaf_tokens,
            leaf_cost_usd,
            leaf_list_cost_usd,
            unpriced_leaves,
            holds,
            max(holds) OVER (PARTITION BY trace_id, above_id) AS does_above_hold
        FROM summed
    ),
    verdicts AS
    (
        SELECT
            trace_id,
            span_id,
            payer,
            unpriced_leaves,
            maxIf(does_above_hold, NOT is_self) OVER (PARTITION BY trace_id, span_id) AS is_held,
            arrayMap((amount, covered) -> least(amount, covered), tokens, arrayResize(leaf_tokens, 6)) AS covered,
            multiIf(isNull(own_cost_usd), NULL, unpriced_leaves > 0, own_cost_usd, least(own_cost_usd, leaf_cost_usd))
                AS covered_cost_usd,
            multiIf(isNull(own_list_cost_usd), NULL, unpriced_leaves > 0, own_list_cost_usd,
                least(own_list_cost_usd, leaf_list_cost_usd)) AS covered_list_cost_usd,
            multiIf(
                dropped != '', dropped,
                span_class = 'tool', '',
                NOT has_amount, multiIf(leaves > 0, 'covered_by_descendants', is_held, 'covered_by_ancestor', ''),
                leaves = 0, '',
                is_held OR NOT holds, 'covered_by_descendants',
                has_usage AND tokens[1] = covered[1] AND tokens[2] = covered[2], 'covered_by_descendants',
                NOT has_usage AND NOT ifNull(own_cost_usd > covered_cost_usd, false), 'covered_by_descendants',
                '') AS reason,
            reason = '' AND has_amount AND leaves > 0 AS is_remainder,
            if(is_remainder, covered, []) AS covered_tokens
        FROM held
        QUALIFY is_self
    )
SELECT
    was.trace_id AS trace_id,
    was.span_id AS span_id,
    was.parent_span_id AS parent_span_id,
    if(verdict.payer['execution_id'] != '', verdict.payer['execution_id'], was.execution_id) AS execution_id,
    was.started_at AS started_at,
    was.ended_at AS ended_at,
    was.service_name AS service_name,
    was.scope_name AS scope_name,
    was.kind AS kind,
    was.span_class AS span_class,
    was.provider AS provider,
    was.model AS model,
    was.request_model AS request_model,
    was.operation AS operation,
    was.service_tier AS service_tier,
    was.input_tokens + was.covered_tokens[1] - verdict.covered_tokens[1] AS input_tokens,
    was.cache_read_tokens + was.covered_tokens[3] - verdict.covered_tokens[3] AS cache_read_tokens,
    was.cache_write_tokens + was.covered_tokens[4] - verdict.covered_tokens[4] AS cache_write_tokens,
    was.cache_write_1h_tokens + was.covered_tokens[5] - verdict.covered_tokens[5] AS cache_write_1h_tokens,
    was.tool_input_tokens AS tool_input_tokens,
    was.audio_input_tokens AS audio_input_tokens,
    was.audio_cache_read_tokens AS audio_cache_read_tokens,
    was.image_input_tokens AS image_input_tokens,
    was.output_tokens + was.covered_tokens[2] - verdict.covered_tokens[2] AS output_tokens,
    was.reasoning_tokens + was.covered_tokens[6] - verdict.covered_tokens[6] AS reasoning_tokens,
    was.audio_output_tokens AS audio_output_tokens,
    was.image_output_tokens AS image_output_tokens,
    was.web_searches AS web_searches,
    was.usage_marks AS usage_marks,
    multiIf(
        NOT verdict.is_remainder, was.whole_cost_usd,
        verdict.unpriced_leaves > 0, NULL,
        was.whole_cost_usd - verdict.covered_cost_usd) AS cost_usd,
    multiIf(
        NOT verdict.is_remainder, was.whole_list_cost_usd,
        verdict.unpriced_leaves > 0, NULL,
        was.whole_list_cost_usd - verdict.covered_list_cost_usd) AS list_cost_usd,
    was.price_status AS price_status,
    was.price_version AS price_version,
    was.price_model AS price_model,
    verdict.reason = '' AS counted,
    verdict.reason AS not_counted_reason,
    verdict.covered_tokens AS covered_tokens,
    if(verdict.is_remainder, verdict.covered_cost_usd, NULL) AS covered_cost_usd,
    if(verdict.is_remainder, verdict.covered_list_cost_usd, NULL) AS covered_list_cost_usd,
    was.is_estimate AS is_estimate,
    was.has_reported_cost AS has_reported_cost,
    was.reported_cost_usd AS reported_cost_usd,
    was.is_provider_inferred AS is_provider_inferred,
    was.response_id AS response_id,
    was.status AS status,
    was.error_type AS error_type,
    if(verdict.payer['organization'] != '', verdict.payer['organization'], was.organization) AS organization,
    if(verdict.payer['team'] != '', verdict.payer['team'], was.team) AS team,
    if(verdict.payer['user_id'] != '', verdict.payer['user_id'], was.user_id) AS user_id,
    if(verdict.payer['feature'] != '', verdict.payer['feature'], was.feature) AS feature,
    if(verdict.payer['agent_name'] != '', verdict.payer['agent_name'], was.agent_name) AS agent_name,
    if(verdict.payer['component'] != '', verdict.payer['component'], was.component) AS component,
    was.tool_name AS tool_name,
    if(verdict.payer['environment'] != '', verdict.payer['environment'], was.environment) AS environment,
    if(verdict.payer['session_id'] != '', verdict.payer['session_id'], was.session_id) AS session_id,
    this.began AS version
FROM
(
    SELECT toUnixTimestamp64Micro(now64(6)) AS began
) AS this
CROSS JOIN
(
    SELECT
        *,
        if(empty(covered_tokens), cost_usd, ifNull(cost_usd, 0) + covered_cost_usd) AS whole_cost_usd,
        if(empty(covered_tokens), list_cost_usd, ifNull(list_cost_usd, 0) + covered_list_cost_usd) AS whole_list_cost_usd
    FROM charges FINAL
    WHERE trace_id IN {trace_ids:Array(String)} AND toDate(started_at) BETWEEN {first_day:Date} AND {last_day:Date}
) AS was
INNER JOIN verdicts AS verdict ON verdict.trace_id = was.trace_id AND verdict.span_id = was.span_id
WHERE was.version < this.began
    AND (
        verdict.reason != was.not_counted_reason
        OR was.counted != (verdict.reason = '')
        OR verdict.covered_tokens != was.covered_tokens
        OR (verdict.is_remainder AND NOT (verdict.covered_cost_usd <=> was.covered_cost_usd))
        OR (verdict.is_remainder AND NOT (verdict.covered_list_cost_usd <=> was.covered_list_cost_usd))
        OR (verdict.is_remainder AND isNull(was.cost_usd) != (verdict.unpriced_leaves > 0 OR isNull(was.whole_cost_usd)))
        OR mapExists((field, name) -> name != map(
            'agent_name', was.agent_name, 'component', was.component, 'environment', was.environment,
            'execution_id', was.execution_id, 'feature', was.feature, 'organization', was.organization,
            'session_id', was.session_id, 'team', was.team, 'user_id', was.user_id)[field], verdict.payer));
