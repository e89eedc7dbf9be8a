-- prices: what each model cost when, in USD per unit of each bucket of usage.
-- Grain:     one row per (provider, model, service_tier, valid_from)
-- Engine:    MergeTree, replaced as a whole when the price book changes
-- Order key: (provider, model, service_tier, valid_from), how a person looks a price up
-- Retention: kept, old prices price old spans
-- Source:    `otel-cost migrate`, `up` and `import` write the price book here (genai-prices and OTEL_COST_PRICES)
-- Read by:   prices_dictionary, queries/prices.sql
CREATE TABLE IF NOT EXISTS prices
(
    provider            LowCardinality(String),
    model               String,
    service_tier        LowCardinality(String),
    valid_from          DateTime('UTC'),
    valid_to            DateTime('UTC'),
    rates               Array(Decimal(38, 18)),
    above_input_tokens  UInt64,
    rates_above         Array(Decimal(38, 18)),
    version             LowCardinality(String),
    source              LowCardinality(String)
)
ENGINE = MergeTree
ORDER BY (provider, model, service_tier, valid_from);
