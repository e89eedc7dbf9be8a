-- accounting_gaps: which spans has no accounting pass of a server looked at?
-- Parameters: since DateTime64(9, 'UTC')
-- Result:     shard (0 where there is one server), passed_until (UTC, of insertion), is_skipped (true: passes failed so long that
--             spans inserted in the minutes before that time were passed over. false: it is more than ten minutes ago, and what
--             came after waits for a pass). Where nothing is missed there is no row
-- Read by:    otel-cost doctor
SELECT
    shardNum() AS shard,
    max(passed_until) AS passed_until,
    is_skipped
FROM accounting_passes AS pass
WHERE pass.passed_until >= {since:DateTime64(9, 'UTC')}
GROUP BY
    shard,
    is_skipped,
    if(is_skipped, toDate(pass.passed_until), toDate(0))
HAVING is_skipped OR passed_until < now('UTC') - INTERVAL 10 MINUTE
ORDER BY
    shard,
    passed_until;
