-- prices: what each model cost when, in USD per unit of each bucket of usage.
-- Grain:     one row per (provider, model, service_tier, valid_from)
-- Engine:    MergeTree, replaced as a whole when the price book changes
-- Order key: (provider, model, service_tier, valid_from), how a person looks a price up
-- Retention: kept, old prices price old spans
-- Source:    `otel-cost migrate`, `up` and `import` write the price book here (genai-prices and OTEL_COST_PRICES)
-- Read by:   views/prices_dictionary.sql
-- rates is the rate of each of otel_cost.rates.PRICED_UNITS (the buckets of usage, then the fee of a request), -1 where
-- none is known, and after it, the same again for requests with more input than each of thresholds. In the seconds of the
-- UTC day from peak_begins to peak_ends the row of service_tier 'peak' holds. estimated says why the rates are not the
-- model's own. discount_ratio is what the customer pays less. valid_to is the last second.
CREATE TABLE IF NOT EXISTS prices
(
    provider        LowCardinality(String),
    model           String,
    service_tier    LowCardinality(String),
    valid_from      DateTime('UTC'),
    valid_to        DateTime('UTC'),
    rates           Array(Decimal(38, 18)),
    thresholds      Array(UInt64),
    peak_begins     Array(UInt32),
    peak_ends       Array(UInt32),
    discount_ratio  Decimal(38, 18),
    estimated       LowCardinality(String),
    source          LowCardinality(String),
    source_date     LowCardinality(String),
    version         LowCardinality(String)
)
ENGINE = MergeTree
ORDER BY (provider, model, service_tier, valid_from);
