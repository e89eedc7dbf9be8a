-- model_patterns: which price entry the provider and model named on a span mean.
-- Grain:     one row per pattern, the lowest id that matches wins
-- Engine:    MergeTree, replaced as a whole when the price book changes
-- Order key: id
-- Retention: kept
-- Source:    `otel-cost migrate`, `up` and `import` write the price book here
-- Read by:   model_patterns_dictionary
CREATE TABLE IF NOT EXISTS model_patterns
(
    id         UInt64,
    parent_id  UInt64,
    regexp     String,
    keys       Array(String),
    values     Array(String)
)
ENGINE = MergeTree
ORDER BY id;
