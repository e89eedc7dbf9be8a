-- note_accounts: up to when the accounting pass has looked, noted after passes that succeeded.
-- Grain:     writes a row once the next window would begin a minute later, so one a minute
-- Target:    accounting_passes, appended to
-- Source:    accounting_window, and system.view_refreshes, where the time of a pass is when it began
-- Read by:   server/accounting_window.sql
-- A pass has looked at the noted window only where it began after the note. Where passes have failed for ten minutes on end, the
-- spans of three minutes are passed over and noted as such (otel-cost doctor tells): what no pass can do must not keep all
-- later spans from being accounted.
CREATE MATERIALIZED VIEW IF NOT EXISTS note_accounts
REFRESH EVERY 10 SECOND OFFSET 5 SECOND APPEND
TO accounting_passes
AS
WITH
    toUnixTimestamp(last_noted_at) = 0 AS is_first,
    ifNull(began > last_noted_at, false) AS is_done,
    NOT is_first AND NOT is_done AND has_failed AND step_end < now('UTC') - INTERVAL 2 MINUTE
        AND last_noted_at < now('UTC') - INTERVAL 10 MINUTE AND uptime() > 600 AS is_skipped
SELECT
    multiIf(
        is_first, since,
        is_skipped, step_end,
        least(step_end, assumeNotNull(began) - INTERVAL 2 MINUTE)) AS passed_until,
    is_skipped,
    now64(3, 'UTC') AS noted_at
FROM
(
    SELECT
        asked.since AS since,
        asked.step_end AS step_end,
        asked.last_passed_until AS last_passed_until,
        asked.last_noted_at AS last_noted_at,
        pass.last_success_time AS began,
        pass.exception != '' AS has_failed
    FROM accounting_window AS asked
    CROSS JOIN system.view_refreshes AS pass
    WHERE pass.database = currentDatabase() AND pass.view = 'refresh_accounts'
)
WHERE is_first OR is_skipped OR (is_done AND passed_until >= last_passed_until + INTERVAL 1 MINUTE);
