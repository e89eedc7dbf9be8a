-- anomaly_clock: the time as of which the unusual is looked for: that of the latest charge, and not later than now.
-- Grain:     one row
-- Source:    execution_days
-- Read by:   views/recent_executions.sql, views/volume_series.sql, views/find_*.sql
-- Charges of days after tomorrow have a clock that is wrong, and do not count. Nor do finders look at what is more than a day
-- after this time. So a history that was imported is judged as of its end, and a service that is idle keeps its findings until
-- it works again.
CREATE OR REPLACE VIEW anomaly_clock
AS
SELECT least(now64(3, 'UTC'), toDateTime64(max(charged_until), 3, 'UTC')) AS at
FROM execution_days
WHERE utc_day <= toDate(now('UTC')) + 1
    AND utc_day >= (SELECT max(utc_day) - 1 FROM execution_days WHERE utc_day <= toDate(now('UTC')) + 1);
