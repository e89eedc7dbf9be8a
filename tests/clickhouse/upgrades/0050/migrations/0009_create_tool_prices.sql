-- tool_prices: what tools of the customer's price files cost, in USD.
-- Grain:     one row per tool
-- Engine:    MergeTree, replaced as a whole when the price book changes
-- Order key: name, how it is looked up
-- Retention: kept, and replaced with the price files
-- Source:    `otel-cost migrate`, `up` and `import` write the price book here (OTEL_COST_PRICES)
-- Read by:   views/tool_prices_dictionary.sql
-- name is tool_name in lower case. A call costs usd_per_call, and usd_per_unit for each unit that the span attribute
-- unit_attribute counts. Where that name is empty nothing counts.
CREATE TABLE IF NOT EXISTS tool_prices
(
    name            String,
    tool_name       String,
    usd_per_call    Decimal(38, 18),
    usd_per_unit    Decimal(38, 18),
    unit_attribute  String,
    source          LowCardinality(String),
    source_date     LowCardinality(String),
    version         LowCardinality(String)
)
ENGINE = MergeTree
ORDER BY name;
