-- accounts: which spans of some traces count, and for how much, where that is not what charges says already.
-- The rules of docs/architecture.md, the same as otel_cost/accounting.py.
-- Parameters: trace_ids Array(String), the traces to decide, rivals Array(String), other traces that hold a record of
--             one of their responses, looked at and left alone
-- Grain:      one row per span whose counted, reason or amount changes, as a later version of its charge
-- Source:     charges, trace_links
-- Read by:    queries/account_traces.sql, server/refresh_accounts.sql
-- Steps:      own (what each span says itself), ranked and matched (records of one call), climbing (every span kept
--             with each span above it), then per span what stands below it and whether a span above already holds it
-- A pass leaves alone what another pass decided after this one began, so that an older view of a trace never wins.
CREATE OR REPLACE VIEW accounts
AS
WITH RECURSIVE
    own AS
    (
        SELECT
            trace_id,
            span_id,
            parent_span_id,
            started_at,
            ended_at,
            scope_name,
            span_class,
            request_model,
            response_id,
            tool_name,
            counted,
            not_counted_reason,
            covered_tokens,
            covered_cost_usd,
            is_estimate,
            isNotNull(input_tokens) AS has_usage,
            has_usage OR has_reported_cost AS has_amount,
            trace_id IN {trace_ids:Array(String)} AS is_asked,
            arrayMap((amount, covered) -> amount + covered, [
                    ifNull(input_tokens, 0), ifNull(output_tokens, 0), cache_read_tokens, cache_write_tokens,
                    cache_write_1h_tokens, reasoning_tokens
                ], arrayResize(covered_tokens, 6)) AS tokens,
            if(empty(covered_tokens), cost_usd, ifNull(cost_usd, 0) + covered_cost_usd) AS own_cost_usd,
            if(empty(covered_tokens), list_cost_usd, ifNull(list_cost_usd, 0) + covered_list_cost_usd) AS own_list_cost_usd,
            lower(arrayElement(splitByChar('/', if(price_model != '', price_model, model)), -1)) AS model_key,
            if(has_usage, arrayCount(amount -> amount > 0, [
                tokens[3], tokens[4], tokens[5], tokens[6], audio_input_tokens, audio_output_tokens]), -1) AS richness,
            (
                span_class = 'aggregate', NOT has_amount, is_estimate, -richness, -toUnixTimestamp64Nano(started_at),
                toUnixTimestamp64Nano(ended_at), trace_id, span_id
            ) AS best_first
        FROM charges FINAL
        WHERE trace_id IN {trace_ids:Array(String)} OR trace_id IN {rivals:Array(String)}
    ),
    ranked AS
    (
        SELECT
            *,
            response_id != '' AND row_number() OVER (
                PARTITION BY span_class = 'tool', response_id, if(response_id = '', (trace_id, span_id), ('', ''))
                ORDER BY best_first) > 1 AS is_same_response,
            NOT is_same_response AND if(span_class = 'tool', tool_name != '', span_class = 'model' AND has_usage) AS has_shape,
            (trace_id, if(span_class = 'tool', ('tool', tool_name, 0, 0), ('', model_key, tokens[1], tokens[2]))) AS shape
        FROM own
    ),
    numbered AS
    (
        SELECT
            *,
            row_number() OVER (PARTITION BY has_shape, shape, scope_name ORDER BY started_at, span_id) AS number_in_scope
        FROM ranked
    ),
    matched AS
    (
        SELECT
            *,
            first_value((started_at, ended_at, response_id, span_id)) OVER (
                PARTITION BY has_shape, shape, number_in_scope ORDER BY best_first) AS best,
            has_shape AND best.4 != span_id AND best.1 <= ended_at AND started_at <= best.2
                AND (best.3 = '' OR response_id = '' OR best.3 = response_id) AS is_same_call,
            maxIf(toUnixTimestamp64Nano(started_at), startsWith(scope_name, 'logfire') AND has_usage AND started_at = ended_at)
                OVER (PARTITION BY trace_id, scope_name, request_model) AS last_log,
            multiIf(
                is_same_response, 'duplicate_response_id',
                is_same_call, 'duplicate_call',
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
            true AS is_self,
            true AS is_covering,
            0 AS height,
            [span_id] AS path,
            dropped,
            span_class,
            has_usage,
            has_amount,
            tokens,
            own_cost_usd,
            own_list_cost_usd,
            counted,
            not_counted_reason,
            covered_tokens,
            covered_cost_usd
        FROM matched
        WHERE is_asked
        UNION ALL
        SELECT
            climbing.trace_id,
            climbing.span_id,
            links.span_id AS above_id,
            links.parent_span_id AS next_id,
            climbing.has_crossed OR links.span_class IN ('tool', 'aggregate') AS has_crossed,
            false AS is_self,
            links.span_class != 'tool' AND NOT (links.span_class = 'model' AND climbing.has_crossed) AS is_covering,
            climbing.height + 1 AS height,
            arrayPushBack(climbing.path, links.span_id) AS path,
            climbing.dropped,
            climbing.span_class,
            climbing.has_usage,
            climbing.has_amount,
            climbing.tokens,
            climbing.own_cost_usd,
            climbing.own_list_cost_usd,
            climbing.counted,
            climbing.not_counted_reason,
            climbing.covered_tokens,
            climbing.covered_cost_usd
        FROM climbing
        INNER JOIN
        (
            SELECT
                trace_id,
                span_id,
                parent_span_id,
                span_class
            FROM trace_links FINAL
            WHERE trace_id IN {trace_ids:Array(String)}
        ) AS links
            ON links.trace_id = climbing.trace_id AND links.span_id = climbing.next_id
        WHERE climbing.dropped = '' AND climbing.next_id != '' AND climbing.height < 999
            AND NOT has(climbing.path, climbing.next_id)
    ),
    pairs AS
    (
        SELECT
            * EXCEPT (path),
            max(is_self AND dropped = '') OVER (PARTITION BY trace_id, above_id) AS is_above_kept
        FROM climbing
        WHERE is_covering
    ),
    heaped AS
    (
        SELECT
            *,
            max(has_amount AND NOT is_self) OVER (PARTITION BY trace_id, above_id) AS has_amount_below_above
        FROM pairs
        WHERE is_above_kept OR is_self
    ),
    leafed AS
    (
        SELECT
            *,
            maxIf(has_amount_below_above, is_self) OVER (PARTITION BY trace_id, span_id) AS has_amount_below,
            has_amount AND NOT is_self AND NOT has_amount_below AS is_leaf
        FROM heaped
    ),
    summed AS
    (
        SELECT
            *,
            countIf(is_leaf) OVER (PARTITION BY trace_id, above_id) AS leaves,
            sumForEachIf(tokens, is_leaf) OVER (PARTITION BY trace_id, above_id) AS leaf_tokens,
            sumIf(ifNull(own_cost_usd, 0), is_leaf) OVER (PARTITION BY trace_id, above_id) AS leaf_cost_usd,
            sumIf(ifNull(own_list_cost_usd, 0), is_leaf) OVER (PARTITION BY trace_id, above_id) AS leaf_list_cost_usd,
            countIf(is_leaf AND isNull(own_cost_usd)) OVER (PARTITION BY trace_id, above_id) AS unpriced_leaves
        FROM leafed
    ),
    valued AS
    (
        SELECT
            *,
            is_self AND dropped = '' AND has_amount AND if(
                has_usage,
                tokens[1] >= leaf_tokens[1] AND tokens[2] >= leaf_tokens[2],
                ifNull(own_cost_usd >= leaf_cost_usd, false)) AS holds
        FROM summed
    ),
    held AS
    (
        SELECT
            *,
            max(holds) OVER (PARTITION BY trace_id, above_id) AS does_above_hold
        FROM valued
    ),
    judged AS
    (
        SELECT
            *,
            maxIf(does_above_hold, NOT is_self) OVER (PARTITION BY trace_id, span_id) AS is_held,
            arrayMap((amount, covered) -> least(amount, covered), tokens, arrayResize(leaf_tokens, 6)) AS covered,
            multiIf(isNull(own_cost_usd), NULL, unpriced_leaves > 0, own_cost_usd, least(own_cost_usd, leaf_cost_usd))
                AS covered_cost,
            multiIf(isNull(own_list_cost_usd), NULL, unpriced_leaves > 0, own_list_cost_usd,
                least(own_list_cost_usd, leaf_list_cost_usd)) AS covered_list_cost
        FROM held
    ),
    verdicts AS
    (
        SELECT
            trace_id,
            span_id,
            counted,
            not_counted_reason,
            covered_tokens,
            covered_cost_usd,
            covered,
            covered_cost,
            covered_list_cost,
            unpriced_leaves,
            multiIf(
                dropped != '', dropped,
                span_class = 'tool', '',
                NOT has_amount, multiIf(leaves > 0, 'covered_by_descendants', is_held, 'covered_by_ancestor', ''),
                leaves = 0, '',
                is_held OR NOT holds, 'covered_by_descendants',
                has_usage AND tokens[1] = covered[1] AND tokens[2] = covered[2], 'covered_by_descendants',
                NOT has_usage AND NOT ifNull(own_cost_usd > covered_cost, false), 'covered_by_descendants',
                '') AS reason,
            reason = '' AND has_amount AND leaves > 0 AS is_remainder,
            if(is_remainder, covered, []) AS new_covered
        FROM judged
        WHERE is_self
    ),
    changed AS
    (
        SELECT *
        FROM verdicts
        WHERE reason != not_counted_reason OR counted != (reason = '') OR new_covered != covered_tokens
            OR (is_remainder AND NOT (covered_cost <=> covered_cost_usd))
    )
SELECT
    was.trace_id AS trace_id,
    was.span_id AS span_id,
    was.parent_span_id AS parent_span_id,
    was.execution_id AS execution_id,
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
    was.input_tokens + was.covered_tokens[1] - changed.new_covered[1] AS input_tokens,
    was.cache_read_tokens + was.covered_tokens[3] - changed.new_covered[3] AS cache_read_tokens,
    was.cache_write_tokens + was.covered_tokens[4] - changed.new_covered[4] AS cache_write_tokens,
    was.cache_write_1h_tokens + was.covered_tokens[5] - changed.new_covered[5] AS cache_write_1h_tokens,
    was.tool_input_tokens AS tool_input_tokens,
    was.audio_input_tokens AS audio_input_tokens,
    was.audio_cache_read_tokens AS audio_cache_read_tokens,
    was.image_input_tokens AS image_input_tokens,
    was.output_tokens + was.covered_tokens[2] - changed.new_covered[2] AS output_tokens,
    was.reasoning_tokens + was.covered_tokens[6] - changed.new_covered[6] AS reasoning_tokens,
    was.audio_output_tokens AS audio_output_tokens,
    was.image_output_tokens AS image_output_tokens,
    was.web_searches AS web_searches,
    was.usage_marks AS usage_marks,
    multiIf(
        changed.is_remainder AND changed.unpriced_leaves > 0, NULL,
        changed.is_remainder, if(empty(was.covered_tokens), was.cost_usd, ifNull(was.cost_usd, 0) + was.covered_cost_usd)
            - changed.covered_cost,
        empty(was.covered_tokens), was.cost_usd,
        ifNull(was.cost_usd, 0) + was.covered_cost_usd) AS cost_usd,
    multiIf(
        changed.is_remainder AND changed.unpriced_leaves > 0, NULL,
        changed.is_remainder, if(
            empty(was.covered_tokens), was.list_cost_usd, ifNull(was.list_cost_usd, 0) + was.covered_list_cost_usd)
            - changed.covered_list_cost,
        empty(was.covered_tokens), was.list_cost_usd,
        ifNull(was.list_cost_usd, 0) + was.covered_list_cost_usd) AS list_cost_usd,
    was.price_status AS price_status,
    was.price_version AS price_version,
    was.price_model AS price_model,
    changed.reason = '' AS counted,
    changed.reason AS not_counted_reason,
    changed.new_covered AS covered_tokens,
    if(changed.is_remainder, changed.covered_cost, NULL) AS covered_cost_usd,
    if(changed.is_remainder, changed.covered_list_cost, NULL) AS covered_list_cost_usd,
    was.is_estimate AS is_estimate,
    was.has_reported_cost AS has_reported_cost,
    was.response_id AS response_id,
    was.status AS status,
    was.error_type AS error_type,
    was.organization AS organization,
    was.team AS team,
    was.user_id AS user_id,
    was.feature AS feature,
    was.agent_name AS agent_name,
    was.component AS component,
    was.tool_name AS tool_name,
    was.environment AS environment,
    was.session_id AS session_id,
    toUnixTimestamp64Micro(now64(6)) AS version
FROM
(
    SELECT *
    FROM charges FINAL
    WHERE trace_id IN {trace_ids:Array(String)}
) AS was
INNER JOIN changed ON changed.trace_id = was.trace_id AND changed.span_id = was.span_id
WHERE was.version < toUnixTimestamp64Micro(now64(6));
