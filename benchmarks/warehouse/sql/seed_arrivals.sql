-- seeds.arrivals: when in a day of the week an execution may begin.
-- Grain: one row per weekday (0 is Monday) and slot
CREATE TABLE seeds.arrivals
(
    weekday    UInt8,
    arrival    UInt32,
    offset_ns  Int64
)
ENGINE = Memory;
