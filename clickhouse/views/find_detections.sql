-- find_detections: patterns of waste that the guard saw while they happened, by what a tool was asked and what came of it.
-- Grain:     one row per execution and kind of finding
-- Source:    decisions FINAL, anomaly_settings
-- Read by:   views/findings.sql
CREATE OR REPLACE VIEW find_detections
AS
SELECT
    multiIf(decision.kind IN ('retry_storm', 'context_growth'), decision.kind, 'loop') AS kind,
    concat('execution:', decision.execution_id) AS subject,
    any(decision.organization) AS organization,
    any(decision.team) AS team,
    any(decision.feature) AS feature,
    any(decision.agent_name) AS agent_name,
    any(decision.model) AS model,
    max(decision.spent_usd) AS stake_usd,
    CAST(NULL, 'Nullable(Decimal(38, 12))') AS expected,
    toDecimal128(count(), 12) AS seen,
    'warnings' AS unit,
    concat(
        'the guard saw it happen',
        if(argMax(decision.reason, decision.decided_at) = '', '', ': '),
        argMax(decision.reason, decision.decided_at)) AS reason,
    'SELECT decided_at, decision, kind, reason FROM decisions FINAL WHERE execution_id = ? ORDER BY decided_at' AS evidence,
    decision.execution_id AS evidence_about,
    min(decision.decided_at) AS first_seen,
    max(decision.decided_at) AS last_seen
FROM decisions AS decision FINAL
WHERE decision.kind IN ('identical_calls', 'ping_pong', 'near_identical_calls', 'retry_storm', 'context_growth')
    AND toDate(decision.decided_at) >= toDate((SELECT at FROM anomaly_clock)) - (SELECT watch_days FROM anomaly_settings)
    AND toDate(decision.decided_at) <= toDate((SELECT at FROM anomaly_clock)) + 1
    AND decision.execution_id != ''
GROUP BY
    kind,
    decision.execution_id;
