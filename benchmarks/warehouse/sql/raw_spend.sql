-- raw_spend: what calls used, by one attribute of their spans, without the warehouse: the least a report has to read.
-- Parameters: attribute String, since DateTime64(9, 'UTC')
-- Result:     name, calls, input_tokens, output_tokens
SELECT
    SpanAttributes[{attribute:String}] AS name,
    count() AS calls,
    sum(toUInt64OrZero(SpanAttributes['gen_ai.usage.input_tokens'])) AS input_tokens,
    sum(toUInt64OrZero(SpanAttributes['gen_ai.usage.output_tokens'])) AS output_tokens
FROM otel_traces
WHERE Timestamp >= {since:DateTime64(9, 'UTC')} AND SpanAttributes['gen_ai.operation.name'] = 'chat'
GROUP BY name
ORDER BY input_tokens DESC
LIMIT 20;
