-- decisions: what did the guard decide, and why?
-- Parameters: since DateTime64(9, 'UTC') (decisions made at or after it), execution_id String (one execution, all when
--             empty), limit UInt32
-- Result:     the latest first: decided_at (UTC), execution_id, decision (deny, warn, remind, downgrade, clamp, wrap_up or
--             approve), kind (the limit, detector or fault behind it), mode (only enforce stopped anything), limit_usd,
--             spent_usd, reserved_usd, asked_usd (USD, NULL where not told), reason, top_components (what spent most),
--             model, scope, trace_id, span_id, service_name, organization, team, user_id, feature, agent_name, component,
--             environment, session_id
-- Read by:    otel-cost decisions
SELECT
    decided_at,
    execution_id,
    decision,
    kind,
    mode,
    limit_usd,
    spent_usd,
    reserved_usd,
    asked_usd,
    reason,
    top_components,
    model,
    scope,
    trace_id,
    span_id,
    service_name,
    organization,
    team,
    user_id,
    feature,
    agent_name,
    component,
    environment,
    session_id
FROM decisions FINAL
WHERE decided_at >= {since:DateTime64(9, 'UTC')}
    AND ({execution_id:String} = '' OR execution_id = {execution_id:String})
ORDER BY
    decided_at DESC,
    trace_id,
    span_id,
    event_number
LIMIT {limit:UInt32};
