-- unpriced: which models were used without a known price?
-- Result:     provider, model, calls, calls_with_usage (calls that say their tokens), input_tokens, output_tokens,
--             first_seen_on, last_seen_on (days, UTC)
-- Read by:    otel-cost doctor, otel-cost prices check
SELECT
    provider,
    model,
    calls,
    calls_with_usage,
    input_tokens,
    output_tokens,
    first_seen_on,
    last_seen_on
FROM unpriced
ORDER BY
    calls DESC,
    provider,
    model
LIMIT 1000;
