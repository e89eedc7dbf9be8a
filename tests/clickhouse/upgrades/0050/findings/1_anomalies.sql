-- anomalies: notes what is unusual now, what has changed about it, and what is over.
-- Grain:     writes one row per (kind, subject) that is new, has changed, or does not hold any more
-- Target:    anomalies
-- Source:    views/findings.sql, anomalies FINAL
-- Read by:   Store.roll after the rollups, and a refreshable view on servers
-- Running it twice changes nothing. Without settings nothing is known to be usual, so nothing is noted.
INSERT INTO anomalies
(
    kind,
    subject,
    severity,
    status,
    stake_usd,
    expected,
    seen,
    unit,
    reason,
    evidence,
    organization,
    team,
    feature,
    agent_name,
    model,
    first_seen,
    last_seen,
    resolved_at,
    version
)
SELECT
    if(is_held, now_found.kind, known.kind) AS kind,
    if(is_held, now_found.subject, known.subject) AS subject,
    if(is_held, now_found.severity, known.severity) AS severity,
    if(is_held, 'open', 'resolved') AS status,
    if(is_held, now_found.stake_usd, known.stake_usd) AS stake_usd,
    if(is_held, now_found.expected, known.expected) AS expected,
    if(is_held, now_found.seen, known.seen) AS seen,
    if(is_held, now_found.unit, known.unit) AS unit,
    if(is_held, now_found.reason, known.reason) AS reason,
    if(is_held, now_found.evidence, known.evidence) AS evidence,
    if(is_held, now_found.organization, known.organization) AS organization,
    if(is_held, now_found.team, known.team) AS team,
    if(is_held, now_found.feature, known.feature) AS feature,
    if(is_held, now_found.agent_name, known.agent_name) AS agent_name,
    if(is_held, now_found.model, known.model) AS model,
    multiIf(
        NOT is_held OR known.subject = '', if(is_held, now_found.first_seen, known.first_seen),
        least(now_found.first_seen, known.first_seen)) AS first_seen,
    if(is_held, greatest(now_found.last_seen, known.last_seen), known.last_seen) AS last_seen,
    if(is_held, NULL, (SELECT at FROM anomaly_clock)) AS resolved_at,
    toUnixTimestamp64Micro(now64(6)) AS version
FROM
(
    SELECT
        kind,
        subject,
        severity,
        stake_usd,
        expected,
        seen,
        unit,
        reason,
        evidence,
        organization,
        team,
        feature,
        agent_name,
        model,
        first_seen,
        last_seen,
        true AS is_held
    FROM findings
) AS now_found
FULL OUTER JOIN
(
    SELECT
        kind,
        subject,
        severity,
        stake_usd,
        expected,
        seen,
        unit,
        reason,
        evidence,
        organization,
        team,
        feature,
        agent_name,
        model,
        first_seen,
        last_seen,
        status
    FROM anomalies FINAL
) AS known
    ON known.kind = now_found.kind AND known.subject = now_found.subject
WHERE (SELECT count() FROM anomaly_settings) > 0
    AND multiIf(
        NOT is_held, known.status = 'open',
        known.status != 'open', true,
        (now_found.severity, now_found.reason, now_found.evidence) != (known.severity, known.reason, known.evidence)
            OR now_found.last_seen > known.last_seen
            OR now_found.first_seen < known.first_seen
            OR ifNull(now_found.stake_usd, -1) != ifNull(known.stake_usd, -1));
