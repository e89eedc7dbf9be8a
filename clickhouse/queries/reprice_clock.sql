-- reprice_clock: what time is it for the store, and which prices has it?
-- Parameters: none
-- Result:     now_us (microseconds of Unix time), price_version
-- Read by:    otel_cost/store/reprice.py
SELECT
    toUnixTimestamp64Micro(now64(6)) AS now_us,
    (SELECT any(version) FROM prices) AS price_version;
