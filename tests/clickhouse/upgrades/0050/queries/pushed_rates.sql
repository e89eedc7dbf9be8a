-- pushed_rates: which rates does the warehouse have?
-- Parameters: none
-- Result:     the columns of prices, USD per unit, -1 where no rate is known
-- Read by:    otel_cost/store/prices.py, to tell what a push changes
SELECT
    provider,
    model,
    service_tier,
    valid_from,
    valid_to,
    rates,
    thresholds,
    peak_begins,
    peak_ends,
    discount_ratio,
    estimated,
    source,
    source_date,
    version
FROM prices;
