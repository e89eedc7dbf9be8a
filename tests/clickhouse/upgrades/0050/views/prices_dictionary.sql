-- prices_dictionary: the rates in force for a model at a moment.
-- Grain:     one entry per (provider, model, service_tier) and period
-- Source:    prices, loaded when the price book is pushed
-- Read by:   views/charge_readings.sql
CREATE OR REPLACE DICTIONARY prices_dictionary
(
    provider        String,
    model           String,
    service_tier    String,
    valid_from      DateTime('UTC'),
    valid_to        DateTime('UTC'),
    rates           Array(Decimal(38, 18)),
    thresholds      Array(UInt64),
    peak_begins     Array(UInt32),
    peak_ends       Array(UInt32),
    discount_ratio  Decimal(38, 18),
    estimated       String,
    version         String
)
PRIMARY KEY provider, model, service_tier
SOURCE(CLICKHOUSE(TABLE 'prices'))
LAYOUT(COMPLEX_KEY_RANGE_HASHED(RANGE_LOOKUP_STRATEGY 'max'))
RANGE(MIN valid_from MAX valid_to)
LIFETIME(0);
