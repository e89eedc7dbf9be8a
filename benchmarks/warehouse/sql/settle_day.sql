-- settle_day: the later versions that the accounting pass writes where payers are inherited or calls recorded twice.
-- Parameters: seed UInt64, day Date, runs UInt64
-- All columns, whatever they are by now: only what the pass decides differs. A server's pass runs every ten seconds, so
-- spans that ended within the same ten have one version.
INSERT INTO charges
SELECT * REPLACE (
    scope_name != 'opentelemetry.instrumentation.langchain' AS counted,
    multiIf(
        scope_name != 'opentelemetry.instrumentation.langchain', '',
        response_id = '', 'duplicate_call',
        'duplicate_response_id') AS not_counted_reason,
    intDiv(toUnixTimestamp64Micro(ended_at), 10000000) * 10000000 + cityHash64(toStartOfInterval(ended_at, INTERVAL 10 SECOND))
        % 10000000 AS version)
FROM charges AS first
WHERE started_at >= toDateTime64({day:Date}, 9, 'UTC')
    AND first.version = 0
    AND trace_id IN (
        SELECT trace_id
        FROM seeds.runs(seed = {seed:UInt64}, day = {day:Date}, runs = {runs:UInt64})
        WHERE is_doubled OR is_payer_inherited);
