-- execution_norms: what an execution of each agent and feature costs, and how its prompts grow, in the middle.
-- Grain:     one row per (worker, feature)
-- Source:    views/recent_executions.sql of the last baseline_days
-- Read by:   views/find_execution_cost.sql, views/find_context_growth.sql
-- Medians of costs are exact. others_median_usd is the median of the costs of the other executions, for one that costs more
-- than the median of all: without it, the middle moves half a place down. It is NULL where only one has a cost.
CREATE OR REPLACE VIEW execution_norms
AS
SELECT
    worker,
    feature,
    executions,
    toUInt64(length(costs)) AS priced_executions,
    multiIf(
        length(costs) < 2, NULL,
        length(costs) % 2 = 1, (costs[intDiv(length(costs), 2)] + costs[intDiv(length(costs), 2) + 1]) / 2,
        costs[intDiv(length(costs), 2)]) AS others_median_usd,
    long_executions,
    median_growth_tokens,
    mean_growth_tokens
FROM
(
    SELECT
        worker,
        feature,
        count() AS executions,
        arraySort(groupArrayIf(assumeNotNull(cost_usd), isNotNull(cost_usd))) AS costs,
        countIf(model_calls >= 8 AND run.median_growth_tokens > 0) AS long_executions,
        quantileExactIf(0.5)(run.median_growth_tokens, model_calls >= 8 AND run.median_growth_tokens > 0)
            AS median_growth_tokens,
        quantileExactIf(0.5)(run.mean_growth_tokens, model_calls >= 8 AND run.median_growth_tokens > 0) AS mean_growth_tokens
    FROM recent_executions AS run
    WHERE is_norm
    GROUP BY
        worker,
        feature
);
