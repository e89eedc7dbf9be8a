-- loaded_prices: is anything priced? Asking loads the dictionaries that pricing looks names and rates up in.
-- Result:    has_pattern, has_price
-- Bound:     the price book
-- Read by:   `otel-cost up` and `import` at their start, as an embedded engine loads for seconds
SELECT
    dictGet('model_patterns_dictionary', 'model', 'openai/gpt-5') != '' AS has_pattern,
    dictHas('prices_dictionary', ('openai', 'gpt-5', ''), now('UTC')) AS has_price;
