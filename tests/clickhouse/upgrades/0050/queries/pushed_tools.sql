-- pushed_tools: which tools does the warehouse have a price for?
-- Parameters: none
-- Result:     the columns of tool_prices, USD
-- Read by:    otel_cost/store/prices.py, to tell what a push changes
SELECT
    name,
    tool_name,
    usd_per_call,
    usd_per_unit,
    unit_attribute,
    source,
    source_date,
    version
FROM tool_prices;
