-- charges: also what it takes to price a charge again: what the instrumentation or the provider said it cost, and whether
--          the provider is the span's own word or that of its price entry.
-- Grain:     one row per billable span, as before
-- Source:    views/charge_readings.sql
-- Read by:   queries/reprice_stage.sql
-- Older rows have NULL and false. Both columns hold one value almost everywhere, and so take almost no room.
ALTER TABLE charges
    ADD COLUMN IF NOT EXISTS reported_cost_usd Nullable(Decimal(38, 12)) DEFAULT NULL CODEC(ZSTD(1)) AFTER has_reported_cost,
    ADD COLUMN IF NOT EXISTS is_provider_inferred Bool DEFAULT false AFTER reported_cost_usd;
