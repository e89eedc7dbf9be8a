-- accounting_window: when the spans were inserted that the next accounting pass looks at.
-- Grain:     one row
-- Source:    accounting_passes, and trace_links of all shards, which <database> shows on a cluster
-- Read by:   server/recent_traces.sql, cluster/recent_traces.sql, server/note_accounts.sql
-- It begins where the last pass that succeeded ended, or with the first span since then, and two minutes ago at the latest: a row
-- may be a while on its way to its part. After a time without passes (a restart, errors) it goes on three minutes at a time, so
-- that no pass is much larger than any other. A subquery is evaluated once in a pass, so that all of it sees one window: never
-- ask for now() beside it.
CREATE OR REPLACE VIEW accounting_window
AS
SELECT
    last_passed_until,
    last_noted_at,
    least(first_inserted_at, now('UTC') - INTERVAL 2 MINUTE) AS since,
    since + INTERVAL 3 MINUTE AS step_end,
    if(step_end < now('UTC') - INTERVAL 2 MINUTE, step_end, toDateTime('2106-01-01 00:00:00', 'UTC')) AS until
FROM
(
    SELECT
        if(count() = 0, now('UTC') - INTERVAL 2 MINUTE, max(passed_until)) AS last_passed_until,
        max(noted_at) AS last_noted_at
    FROM accounting_passes
) AS noted
CROSS JOIN
(
    SELECT if(count() = 0, now('UTC'), min(inserted_at)) AS first_inserted_at
    FROM <database>.trace_links
    WHERE inserted_at >= (
        SELECT if(count() = 0, now('UTC') - INTERVAL 2 MINUTE, max(passed_until))
        FROM accounting_passes)
) AS linked;
