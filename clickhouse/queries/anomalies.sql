-- anomalies: what is unusual about spending, the open and the gravest first?
-- Parameters: since and until DateTime64(9, 'UTC') (findings that lasted into this time), kind String (only these, all where it
--             is empty), limit UInt32
-- Result:     severity (critical, warning or info), status (open or resolved), kind, subject, stake_usd (USD at stake, an
--             estimate, NULL when nothing of it is priced), expected and seen (in unit), unit, reason (a sentence), evidence (a
--             query that shows it), organization, team, feature, agent_name and model (empty where several or none), first_seen,
--             last_seen and resolved_at (UTC, NULL while open)
-- Read by:    otel-cost anomalies
SELECT
    severity,
    status,
    kind,
    subject,
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
    resolved_at
FROM anomalies FINAL
WHERE last_seen >= {since:DateTime64(9, 'UTC')}
    AND first_seen < {until:DateTime64(9, 'UTC')}
    AND (kind = {kind:String} OR {kind:String} = '')
ORDER BY
    status,
    indexOf(['critical', 'warning', 'info'], severity),
    stake_usd DESC NULLS LAST,
    kind,
    subject
LIMIT {limit:UInt32};
