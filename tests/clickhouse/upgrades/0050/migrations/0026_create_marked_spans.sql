-- marked_spans: what there is to read in a span that says something about a model, a tool or an agent, on its way to readings.
-- Grain:     one row per such span of an insert
-- Engine:    Null, nothing is kept
-- Order key: none
-- Retention: none
-- Source:    views/mark_spans.sql
-- Read by:   views/read_spans.sql
-- An insert of which nothing arrives here does not pay for finding out what the long view behind it means.
CREATE TABLE IF NOT EXISTS marked_spans
(
    trace_id            String,
    span_id             String,
    parent_span_id      String,
    started_at          DateTime64(9, 'UTC'),
    ended_at            DateTime64(9, 'UTC'),
    service_name        LowCardinality(String),
    scope_name          String,
    scope_version       String,
    status              LowCardinality(String),
    exception_type      String,
    attributes          Map(LowCardinality(String), String),
    resource_attributes Map(LowCardinality(String), String),
    own_payer           Map(String, String)
)
ENGINE = Null;
