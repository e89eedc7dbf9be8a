-- insert_web: spans of an ordinary web service, none of which has anything to do with a model.
-- Parameters: seed UInt64, spans UInt64
INSERT INTO otel_traces
(
    Timestamp,
    TraceId,
    SpanId,
    ParentSpanId,
    SpanName,
    SpanKind,
    ServiceName,
    ResourceAttributes,
    ScopeName,
    ScopeVersion,
    SpanAttributes,
    Duration,
    StatusCode
)
SELECT
    fromUnixTimestamp64Nano(toInt64(1790000000000000000 + number * 1000003), 'UTC') AS Timestamp,
    lower(hex(sipHash128({seed:UInt64}, intDiv(number, 8)))) AS TraceId,
    leftPad(lower(hex(cityHash64({seed:UInt64}, number))), 16, '0') AS SpanId,
    if(number % 8 = 0, '', leftPad(lower(hex(cityHash64({seed:UInt64}, number - number % 8))), 16, '0')) AS ParentSpanId,
    multiIf(number % 8 = 0, 'GET /orders/{id}', number % 2 = 0, 'SELECT orders', 'GET') AS SpanName,
    if(number % 8 = 0, 'Server', 'Client') AS SpanKind,
    'orders' AS ServiceName,
    map(
        'service.name', 'orders',
        'service.version', '2.14.1',
        'deployment.environment.name', 'production',
        'host.name', 'worker-' || toString(number % 16),
        'k8s.pod.name', 'orders-7d9f-' || toString(number % 16),
        'telemetry.sdk.language', 'java',
        'telemetry.sdk.version', '1.60.0') AS ResourceAttributes,
    'io.opentelemetry.spring-webmvc-6.0' AS ScopeName,
    '2.20.0' AS ScopeVersion,
    if(
        number % 2 = 0 AND number % 8 != 0,
        map(
            'db.system.name', 'postgresql',
            'db.namespace', 'orders',
            'db.operation.name', 'SELECT',
            'db.query.text', 'SELECT id, state, total FROM orders WHERE id = $1 AND tenant = $2 ORDER BY id LIMIT 20',
            'server.address', 'db-1.internal',
            'server.port', '5432',
            'thread.name', 'http-nio-8080-exec-' || toString(number % 40)),
        map(
            'http.request.method', 'GET',
            'http.response.status_code', '200',
            'http.route', '/orders/{id}',
            'url.path', '/orders/' || toString(cityHash64(number) % 1000000),
            'url.scheme', 'https',
            'server.address', 'orders.example.com',
            'client.address', '10.0.' || toString(number % 256) || '.7',
            'user_agent.original', 'Mozilla/5.0 (X11 Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0',
            'network.protocol.version', '2',
            'thread.name', 'http-nio-8080-exec-' || toString(number % 40))) AS SpanAttributes,
    toUInt64(cityHash64(number) % 50000000) AS Duration,
    'Unset' AS StatusCode
FROM numbers({spans:UInt64});
