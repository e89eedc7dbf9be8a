-- seeds.steps: the recorded executions, call by call.
-- Grain: one row per model call of a recorded execution, and the tool call after it
CREATE TABLE seeds.steps
(
    shape              UInt32,
    step               UInt32,
    after_ms           Int64,
    model_ms           Int64,
    tool_ms            Int64,
    execution_ms       Int64,
    prompt_tokens      UInt64,
    cached_tokens      UInt64,
    completion_tokens  UInt64,
    reasoning_tokens   UInt64,
    cost_pico_usd      Int64,
    is_malformed       Bool,
    is_failed          Bool,
    said               String,
    action             String
)
ENGINE = Memory;
