-- findings: everything that is unusual now.
-- Grain:     one row per (kind, subject)
-- Source:    views/find_*.sql, anomaly_settings
-- Read by:   findings/1_anomalies.sql, people who want to see what a setting does
-- Where two finders say the same of a subject, the one with more at stake is told. Severity follows the stake: info below
-- warning_usd, critical from critical_usd on, warning between, and warning where the stake is not known.
CREATE OR REPLACE VIEW findings
AS
SELECT
    found.kind AS kind,
    found.subject AS subject,
    multiIf(
        isNull(found.stake), 'warning',
        assumeNotNull(found.stake) >= setting.critical_usd, 'critical',
        assumeNotNull(found.stake) >= setting.warning_usd, 'warning',
        'info') AS severity,
    found.stake AS stake_usd,
    found.told.1 AS expected,
    found.told.2 AS seen,
    found.told.3 AS unit,
    found.told.4 AS reason,
    found.told.5 AS evidence,
    found.told.6 AS organization,
    found.told.7 AS team,
    found.told.8 AS feature,
    found.told.9 AS agent_name,
    found.told.10 AS model,
    found.begun AS first_seen,
    found.ended AS last_seen
FROM
(
    SELECT
        toString(kind) AS kind,
        toString(subject) AS subject,
        max(CAST(stake_usd, 'Nullable(Decimal(38, 12))')) AS stake,
        argMax(
            (
                CAST(expected, 'Nullable(Decimal(38, 12))'),
                CAST(seen, 'Decimal(38, 12)'),
                toString(unit),
                reason,
                replaceAll(
                    evidence,
                    '?',
                    concat('''', replaceAll(replaceAll(evidence_about, '\\', '\\\\'), '''', '\\'''), '''')),
                toString(organization),
                toString(team),
                toString(feature),
                toString(agent_name),
                toString(model)),
            (ifNull(toFloat64(stake_usd), 0), reason)) AS told,
        min(toDateTime64(first_seen, 3, 'UTC')) AS begun,
        max(toDateTime64(last_seen, 3, 'UTC')) AS ended
    FROM
    (
        SELECT
            kind,
            subject,
            organization,
            team,
            feature,
            agent_name,
            model,
            stake_usd,
            expected,
            seen,
            unit,
            reason,
            evidence,
            evidence_about,
            first_seen,
            last_seen
        FROM find_executions
        UNION ALL
        SELECT
            kind,
            subject,
            organization,
            team,
            feature,
            agent_name,
            model,
            stake_usd,
            expected,
            seen,
            unit,
            reason,
            evidence,
            evidence_about,
            first_seen,
            last_seen
        FROM find_detections
        UNION ALL
        SELECT
            kind,
            subject,
            organization,
            team,
            feature,
            agent_name,
            model,
            stake_usd,
            expected,
            seen,
            unit,
            reason,
            evidence,
            evidence_about,
            first_seen,
            last_seen
        FROM find_retry_storms
        UNION ALL
        SELECT
            kind,
            subject,
            organization,
            team,
            feature,
            agent_name,
            model,
            stake_usd,
            expected,
            seen,
            unit,
            reason,
            evidence,
            evidence_about,
            first_seen,
            last_seen
        FROM find_volume_spikes
        UNION ALL
        SELECT
            kind,
            subject,
            organization,
            team,
            feature,
            agent_name,
            model,
            stake_usd,
            expected,
            seen,
            unit,
            reason,
            evidence,
            evidence_about,
            first_seen,
            last_seen
        FROM find_oversized_models
        UNION ALL
        SELECT
            kind,
            subject,
            organization,
            team,
            feature,
            agent_name,
            model,
            stake_usd,
            expected,
            seen,
            unit,
            reason,
            evidence,
            evidence_about,
            first_seen,
            last_seen
        FROM find_prompt_creep
        UNION ALL
        SELECT
            kind,
            subject,
            organization,
            team,
            feature,
            agent_name,
            model,
            stake_usd,
            expected,
            seen,
            unit,
            reason,
            evidence,
            evidence_about,
            first_seen,
            last_seen
        FROM find_routing_failures
        UNION ALL
        SELECT
            kind,
            subject,
            organization,
            team,
            feature,
            agent_name,
            model,
            stake_usd,
            expected,
            seen,
            unit,
            reason,
            evidence,
            evidence_about,
            first_seen,
            last_seen
        FROM find_unpriced_models
        UNION ALL
        SELECT
            kind,
            subject,
            organization,
            team,
            feature,
            agent_name,
            model,
            stake_usd,
            expected,
            seen,
            unit,
            reason,
            evidence,
            evidence_about,
            first_seen,
            last_seen
        FROM find_unowned_spend
    )
    GROUP BY
        kind,
        subject
) AS found
CROSS JOIN anomaly_settings AS setting;
