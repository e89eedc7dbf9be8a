-- accounting_passes: up to when a server's accounting pass has looked at what was inserted.
-- Grain:     after merges, one row per day of insertion, and one more for a day of which something was passed over
-- Engine:    ReplacingMergeTree(noted_at), so that the latest note of a day remains
-- Order key: (is_skipped, toDate(passed_until)), one row of each a day
-- Retention: kept, two rows a day at most
-- Source:    server/note_accounts.sql. An embedded store accounts before it acknowledges, and has no rows
-- Read by:   server/accounting_window.sql, queries/accounting_gaps.sql
CREATE TABLE IF NOT EXISTS accounting_passes
(
    passed_until    DateTime('UTC'),
    is_skipped      Bool,
    noted_at        DateTime64(3, 'UTC')
)
ENGINE = ReplacingMergeTree(noted_at)
ORDER BY (is_skipped, toDate(passed_until));
