-- seeds.runs: the executions of one day.
-- Parameters: seed UInt64, day Date, runs UInt64 (how many)
-- Grain:      one row per execution
-- Everything random is a hash of the seed, the day and the number of the execution, so it is the same each time.
CREATE VIEW seeds.runs
AS
SELECT
    run.key AS key,
    lower(hex(sipHash128(run.key, 'trace'))) AS trace_id,
    run.shape AS shape,
    toInt64(toUnixTimestamp({day:Date})) * 1000000000 + arrival.offset_ns + toInt64(run.key % 999999937) AS began_ns,
    if(
        profile.names_execution,
        'run-' || lower(hex(sipHash128(run.key, 'execution'))),
        trace_id) AS execution_id,
    if(
        profile.has_session,
        'conv_' || lower(hex(sipHash128(run.key, profile.session_of))) || lower(hex(cityHash64(run.key, 'session'))),
        '') AS session_id,
    profile.organization AS organization,
    profile.team AS team,
    profile.user_id AS user_id,
    profile.feature AS feature,
    profile.agent_name AS agent_name,
    profile.service_name AS service_name,
    profile.environment AS environment,
    (profile.provider, profile.model, profile.request_model, profile.id_kind, profile.scope_name) AS large,
    (
        profile.small_provider,
        profile.small_model,
        profile.small_request_model,
        profile.small_id_kind,
        profile.small_scope_name
    ) AS small,
    profile.is_nested AS is_nested,
    profile.has_web_span AS has_web_span,
    profile.has_http_spans AS has_http_spans,
    profile.is_doubled AS is_doubled,
    profile.has_tool_ids AS has_tool_ids,
    profile.is_payer_inherited AS is_payer_inherited
FROM
(
    SELECT
        cityHash64({seed:UInt64}, {day:Date}, number) AS key,
        toUInt32(key % 65536) AS slot,
        toUInt32(bitShiftRight(key, 16) % 32768) AS arrival,
        toUInt32(bitShiftRight(key, 32) % (SELECT max(shape) + 1 FROM seeds.steps)) AS shape,
        toUInt8(toDayOfWeek({day:Date}) - 1) AS weekday
    FROM numbers({runs:UInt64})
) AS run
INNER JOIN seeds.profiles AS profile ON profile.slot = run.slot
INNER JOIN seeds.arrivals AS arrival ON arrival.weekday = run.weekday AND arrival.arrival = run.arrival;
