-- time_zones_dictionary: how far an organization's clock is ahead of UTC at a moment, in seconds.
-- Grain:     one entry per organization and period
-- Source:    time_zones, loaded when the policy is pushed
-- Read by:   rollups/2_spend_hours.sql, rollups/6_baselines.sql
CREATE OR REPLACE DICTIONARY time_zones_dictionary
(
    organization  String,
    valid_from    DateTime('UTC'),
    valid_until   DateTime('UTC'),
    offset_s      Int32
)
PRIMARY KEY organization
SOURCE(CLICKHOUSE(TABLE 'time_zones'))
LAYOUT(COMPLEX_KEY_RANGE_HASHED())
RANGE(MIN valid_from MAX valid_until)
LIFETIME(0);
