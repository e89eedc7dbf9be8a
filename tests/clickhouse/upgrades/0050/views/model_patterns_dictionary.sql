-- model_patterns_dictionary: the price entry that `provider/model` in lower case leads to.
-- Grain:     one entry per pattern, the lowest id that matches wins
-- Source:    model_patterns, loaded when the price book is pushed
-- Read by:   views/charge_readings.sql
CREATE OR REPLACE DICTIONARY model_patterns_dictionary
(
    regexp    String,
    provider  String,
    model     String
)
PRIMARY KEY regexp
SOURCE(CLICKHOUSE(TABLE 'model_patterns'))
LAYOUT(REGEXP_TREE())
LIFETIME(0);
