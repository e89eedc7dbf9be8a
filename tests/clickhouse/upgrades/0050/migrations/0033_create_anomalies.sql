-- anomalies: what is unusual about spending, in words, with what it costs and the query that shows it.
-- Grain:     one row per (kind, subject) after merges, so readers use FINAL
-- Engine:    ReplacingMergeTree(version): a pass writes again what is new, has changed or is over
-- Order key: (kind, subject), what makes two findings the same
-- Retention: kept
-- Source:    findings/1_anomalies.sql
-- Read by:   queries/anomalies.sql, people
-- stake_usd is what the finding is about in money, an estimate, NULL where nothing of it has a price. expected and seen are
-- in unit. first_seen and last_seen are when it happened, not when it was noticed. A finding is open while its condition
-- holds, resolved since resolved_at, and open again, with its first_seen, when it comes back.
CREATE TABLE IF NOT EXISTS anomalies
(
    kind          LowCardinality(String),
    subject       String,
    severity      LowCardinality(String),
    status        LowCardinality(String),
    stake_usd     Nullable(Decimal(38, 12)),
    expected      Nullable(Decimal(38, 12)),
    seen          Decimal(38, 12),
    unit          LowCardinality(String),
    reason        String CODEC(ZSTD(1)),
    evidence      String CODEC(ZSTD(1)),
    organization  String,
    team          String,
    feature       String,
    agent_name    String,
    model         String,
    first_seen    DateTime64(3, 'UTC'),
    last_seen     DateTime64(3, 'UTC'),
    resolved_at   Nullable(DateTime64(3, 'UTC')),
    version       UInt64
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (kind, subject)
SETTINGS
    index_granularity = 8192,
    min_age_to_force_merge_seconds = 60,
    min_age_to_force_merge_on_partition_only = 1;
