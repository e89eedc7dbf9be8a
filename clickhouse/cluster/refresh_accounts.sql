-- refresh_accounts: the accounting pass of a shard, every ten seconds over what was inserted since its last.
-- Grain:     writes one row per span whose counted, reason or amount changes
-- Target:    charges of this shard, appended to
-- Source:    the query of views/accounts.sql, which the runner puts in for the mark below, over recent_traces, and with
--            the records that rival_traces of other shards hold of the same responses
-- Read by:   everybody who reads charges
-- Takes the place of server/refresh_accounts.sql on a cluster: each shard decides about its own traces.
CREATE MATERIALIZED VIEW IF NOT EXISTS refresh_accounts
REFRESH EVERY 10 SECOND APPEND
TO charges
AS
<accounts of recent_traces>
SETTINGS do_not_merge_across_partitions_select_final = 1, optimize_move_to_prewhere_if_final = 1;
