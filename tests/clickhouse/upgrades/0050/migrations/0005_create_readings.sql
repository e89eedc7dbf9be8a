-- readings: what a span says, in the words of one convention, on its way into charges and trace_links.
-- Grain:     one row per span of an insert
-- Engine:    Null, nothing is kept
-- Order key: none
-- Retention: none
-- Source:    views/read_spans.sql
-- Read by:   views/charge_readings.sql, views/link_readings.sql
CREATE TABLE IF NOT EXISTS readings
(
    trace_id                 String,
    span_id                  String,
    parent_span_id           String,
    started_at               DateTime64(9, 'UTC'),
    ended_at                 DateTime64(9, 'UTC'),
    service_name             LowCardinality(String),
    scope_name               LowCardinality(String),
    span_class               LowCardinality(String),
    is_billable              Bool,
    provider                 LowCardinality(String),
    model                    LowCardinality(String),
    request_model            LowCardinality(String),
    operation                LowCardinality(String),
    service_tier             LowCardinality(String),
    response_id              String,
    tool_name                LowCardinality(String),
    has_usage                Bool,
    input_tokens             UInt64,
    cache_read_tokens        UInt64,
    cache_write_tokens       UInt64,
    cache_write_1h_tokens    UInt64,
    tool_input_tokens        UInt64,
    audio_input_tokens       UInt64,
    audio_cache_read_tokens  UInt64,
    image_input_tokens       UInt64,
    output_tokens            UInt64,
    reasoning_tokens         UInt64,
    audio_output_tokens      UInt64,
    image_output_tokens      UInt64,
    web_searches             UInt64,
    usage_marks              Array(LowCardinality(String)),
    is_estimate              Bool,
    reported_cost_usd        Nullable(Decimal(38, 18)),
    reported_by              LowCardinality(String),
    span_cost_usd            Nullable(Decimal(38, 12)),
    span_list_cost_usd       Nullable(Decimal(38, 12)),
    span_price_status        LowCardinality(String),
    span_price_version       LowCardinality(String),
    span_price_model         LowCardinality(String),
    status                   LowCardinality(String),
    error_type               LowCardinality(String),
    execution_id             String,
    organization             LowCardinality(String),
    team                     LowCardinality(String),
    user_id                  String,
    feature                  LowCardinality(String),
    agent_name               LowCardinality(String),
    component                LowCardinality(String),
    environment              LowCardinality(String),
    session_id               String
)
ENGINE = Null;
