-- refresh_accounts: the accounting pass for spans that a Collector inserts, every ten seconds over those since the last.
-- Grain:     writes one row per span whose counted, reason or amount changes
-- Target:    charges, appended to
-- Source:    the query of views/accounts.sql, which the runner puts in for the mark below, over recent_traces
-- Read by:   everybody who reads charges
-- Spans that `otel-cost up` and `import` insert are decided before they are acknowledged, and change nothing here.
CREATE MATERIALIZED VIEW IF NOT EXISTS refresh_accounts
REFRESH EVERY 10 SECOND APPEND
TO charges
AS
<accounts of recent_traces>
SETTINGS do_not_merge_across_partitions_select_final = 1, optimize_move_to_prewhere_if_final = 1;
