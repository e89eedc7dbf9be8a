-- tool_prices_dictionary: what a tool costs, by its name in lower case.
-- Grain:     one entry per tool
-- Source:    tool_prices, loaded when the price book is pushed
-- Read by:   views/read_spans.sql, views/charge_readings.sql
CREATE OR REPLACE DICTIONARY tool_prices_dictionary
(
    name            String,
    tool_name       String,
    usd_per_call    Decimal(38, 18),
    usd_per_unit    Decimal(38, 18),
    unit_attribute  String,
    version         String
)
PRIMARY KEY name
SOURCE(CLICKHOUSE(TABLE 'tool_prices'))
LAYOUT(COMPLEX_KEY_HASHED())
LIFETIME(0);
