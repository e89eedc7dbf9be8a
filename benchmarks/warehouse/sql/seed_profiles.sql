-- seeds.profiles: combinations of payer, agent, models and habits of instrumentation that executions are drawn from.
-- Grain: one row per slot
CREATE TABLE seeds.profiles
(
    slot                 UInt32,
    organization         String,
    team                 String,
    user_id              String,
    feature              String,
    agent_name           String,
    service_name         String,
    environment          String,
    provider             String,
    model                String,
    request_model        String,
    id_kind              String,
    scope_name           String,
    small_provider       String,
    small_model          String,
    small_request_model  String,
    small_id_kind        String,
    small_scope_name     String,
    is_nested            Bool,
    has_web_span         Bool,
    has_http_spans       Bool,
    is_doubled           Bool,
    has_session          Bool,
    has_tool_ids         Bool,
    names_execution      Bool,
    is_payer_inherited   Bool,
    session_of           UInt32
)
ENGINE = Memory;
