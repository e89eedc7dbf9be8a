"""Both decoders write what the Collector's ClickHouse exporter writes."""

from __future__ import annotations

import contextlib
import json
import struct
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from otel_cost.errors import MalformedError
from otel_cost.server import spans
from otel_cost.server.otlp_json import decode_json
from otel_cost.server.otlp_protobuf import decode_protobuf
from otel_cost.server.spans import Decoded, to_columns
from otel_cost.store import SPAN_COLUMNS
from tests.server.harness import START_NS, request_of


def json_span(**changes: Any) -> dict[str, Any]:
    """Return a valid span in OTLP/JSON, with changes."""
    span = {"traceId": "ab" * 16, "spanId": "cd" * 8, "name": "chat", "startTimeUnixNano": str(START_NS)}
    return {**span, **changes}


def json_request(*request_spans: Any, resource: Any = None) -> bytes:
    """Return a request in OTLP/JSON."""
    group = {"resource": resource or {}, "scopeSpans": [{"spans": list(request_spans)}]}
    return json.dumps({"resourceSpans": [group]}).encode()


def one(decoded: Decoded) -> dict[str, Any]:
    """Return the only span by column."""
    assert not decoded.rejected
    assert len(decoded.rows) == 1
    return dict(zip(SPAN_COLUMNS, decoded.rows[0], strict=True))


def test_a_span_fills_every_column() -> None:
    """The columns of the exporter, in its spelling; the values are written down here by hand."""
    request = request_of(1)
    span = request.resource_spans[0].scope_spans[0].spans[0]
    span.parent_span_id, span.trace_state = b"\x00\x01\x02\x03\x04\x05\x06\x07", "k=v"
    span.status.code, span.status.message = 2, "boom"
    event = span.events.add(name="gen_ai.choice", time_unix_nano=START_NS + 5)
    event.attributes.add(key="index").value.int_value = 0
    link = span.links.add(trace_id=b"\x11" * 16, span_id=b"\x22" * 8, trace_state="l=1")
    link.attributes.add(key="why").value.string_value = "retry"
    row = one(decode_protobuf(request.SerializeToString()))
    assert row == {
        "Timestamp": START_NS,
        "TraceId": span.trace_id.hex(),
        "SpanId": span.span_id.hex(),
        "ParentSpanId": "0001020304050607",
        "TraceState": "k=v",
        "SpanName": "chat",
        "SpanKind": "Client",
        "ServiceName": "agent",
        "ResourceAttributes": {"service.name": "agent"},
        "ScopeName": "scope",
        "ScopeVersion": "1.0",
        "SpanAttributes": {"gen_ai.usage.input_tokens": "100"},
        "Duration": 10**9,
        "StatusCode": "Error",
        "StatusMessage": "boom",
        "Events.Timestamp": [START_NS + 5],
        "Events.Name": ["gen_ai.choice"],
        "Events.Attributes": [{"index": "0"}],
        "Links.TraceId": ["11" * 16],
        "Links.SpanId": ["22" * 8],
        "Links.TraceState": ["l=1"],
        "Links.Attributes": [{"why": "retry"}],
    }


VALUES = [
    ({"stringValue": "x"}, "x"),
    ({"stringValue": ""}, ""),
    ({"boolValue": True}, "true"),
    ({"boolValue": False}, "false"),
    ({"intValue": "9007199254740993"}, "9007199254740993"),
    ({"intValue": "-9223372036854775808"}, "-9223372036854775808"),
    ({"intValue": 0}, "0"),
    ({"doubleValue": 1.0}, "1"),
    ({"doubleValue": 0.0}, "0"),
    ({"doubleValue": 0.1}, "0.1"),
    ({"doubleValue": -2.5}, "-2.5"),
    ({"doubleValue": 1e20}, "100000000000000000000"),
    ({"doubleValue": 1e21}, "1e+21"),
    ({"doubleValue": 0.00001}, "0.00001"),
    ({"doubleValue": 1.5e-7}, "1.5e-7"),
    ({"doubleValue": 1e-12}, "1e-12"),
    ({"doubleValue": "NaN"}, "json: unsupported value: NaN"),
    ({"doubleValue": "-Infinity"}, "json: unsupported value: -Inf"),
    ({"bytesValue": "AQL/"}, "AQL/"),
    ({"arrayValue": {"values": [{"stringValue": "stop"}, {"intValue": "3"}]}}, '["stop",3]'),
    ({"arrayValue": {}}, "[]"),
    ({"kvlistValue": {"values": []}}, "{}"),
    (
        {
            "kvlistValue": {
                "values": [
                    {"key": "b", "value": {"doubleValue": 2.0}},
                    {"key": "a", "value": {"arrayValue": {"values": [{"boolValue": True}, {}]}}},
                    {"key": "c", "value": {"bytesValue": "AQL/"}},
                    {"key": "d", "value": {"stringValue": "<é&>"}},
                ]
            }
        },
        '{"a":[true,null],"b":2,"c":"AQL/","d":"<é&>"}',
    ),
    ({}, ""),
    (None, ""),
]


@pytest.mark.parametrize(("value", "text"), VALUES, ids=[text or "empty" for _, text in VALUES])
def test_values_become_the_exporters_text(value: dict[str, Any] | None, text: str) -> None:
    """`pcommon.Value.AsString`, which the exporter calls: Go's numbers, sorted compact JSON, base64."""
    attributes = [{"key": "a", "value": value}]
    assert one(decode_json(json_request(json_span(attributes=attributes))))["SpanAttributes"] == {"a": text}


any_values = st.recursive(
    st.one_of(
        st.builds(lambda v: AnyValue(string_value=v), st.text(max_size=20)),
        st.builds(lambda v: AnyValue(bool_value=v), st.booleans()),
        st.builds(lambda v: AnyValue(int_value=v), st.integers(-(2**63), 2**63 - 1)),
        st.builds(lambda v: AnyValue(double_value=v), st.floats()),
        st.builds(lambda v: AnyValue(bytes_value=v), st.binary(max_size=10)),
        st.just(AnyValue()),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: AnyValue(array_value={"values": items})),
        st.dictionaries(st.text(max_size=5), inner, max_size=3).map(
            lambda items: AnyValue(
                kvlist_value={"values": [KeyValue(key=k, value=v) for k, v in items.items()]}
            )
        ),
    ),
    max_leaves=8,
)


def to_json(value: AnyValue) -> dict[str, Any]:
    """Write a value as OTLP/JSON does, independently of the code under test."""
    member = value.WhichOneof("value")
    if member is None:
        return {}
    if member == "string_value":
        return {"stringValue": value.string_value}
    if member == "bool_value":
        return {"boolValue": value.bool_value}
    if member == "int_value":
        return {"intValue": str(value.int_value)}
    if member == "double_value":
        number = value.double_value
        special = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
        return {"doubleValue": special.get(repr(number), number)}
    if member == "bytes_value":
        import base64

        return {"bytesValue": base64.b64encode(value.bytes_value).decode()}
    if member == "array_value":
        return {"arrayValue": {"values": [to_json(item) for item in value.array_value.values]}}
    pairs = [{"key": pair.key, "value": to_json(pair.value)} for pair in value.kvlist_value.values]
    return {"kvlistValue": {"values": pairs}}


@given(st.dictionaries(st.text(max_size=10), any_values, max_size=5))
def test_protobuf_and_json_give_the_same_row(attributes: dict[str, AnyValue]) -> None:
    """Whatever the encoding, the store gets the same span."""
    request = ExportTraceServiceRequest()
    span = request.resource_spans.add().scope_spans.add().spans.add()
    span.trace_id, span.span_id, span.name = b"\xab" * 16, b"\xcd" * 8, "chat"
    span.start_time_unix_nano = START_NS
    for key, value in attributes.items():
        span.attributes.add(key=key).value.CopyFrom(value)
    pairs = [{"key": key, "value": to_json(value)} for key, value in attributes.items()]
    body = json_request(json_span(attributes=pairs))
    assert decode_protobuf(request.SerializeToString()).rows == decode_json(body).rows


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_doubles_survive_as_text(number: float) -> None:
    """The text of a double reads back as the same double, without a fraction where there is none."""
    text = spans.float_text(number)
    assert struct.pack("d", float(text)) == struct.pack("d", number)
    assert not text.endswith(".0")


@given(st.binary(max_size=300))
def test_random_bytes_never_break_the_decoders(body: bytes) -> None:
    """Bytes are decoded or malformed; nothing else can happen."""
    for decode in (decode_protobuf, decode_json):
        with contextlib.suppress(MalformedError):
            assert decode(body).rows is not None


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**65), 2**65), st.floats(), st.text(max_size=8)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.one_of(
                st.text(max_size=4), st.sampled_from(["key", "value", "values", "intValue", "kvlistValue"])
            ),
            inner,
            max_size=3,
        ),
    ),
    max_leaves=6,
)
FIELDS = ["traceId", "spanId", "parentSpanId", "name", "kind", "startTimeUnixNano", "endTimeUnixNano"]
FIELDS += ["attributes", "events", "links", "status", "traceState"]


@given(st.dictionaries(st.sampled_from(FIELDS), json_values, max_size=3))
def test_wrong_types_reject_the_span_and_no_other(changes: dict[str, Any]) -> None:
    """A span with fields of any shape is taken or rejected, and its neighbour is always taken."""
    good = json_span(spanId="ee" * 8)
    body = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [json_span(**changes), good]}]}]})
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return
    assert document
    decoded = decode_json(body)
    assert len(decoded.rows) + decoded.rejected.total() == 2
    assert decoded.rows[-1][2] == "ee" * 8
    for row in decoded.rows:
        assert all(type(text) is str for text in row[1:8])
        assert all(type(text) is str for pair in row[11].items() for text in pair)


BAD_SPANS = [
    ({"traceId": "ab"}, "traceId is 1 bytes, expected 16"),
    ({"traceId": "0" * 32}, "traceId is all zeros"),
    ({"traceId": "xy" * 16}, "traceId is not hexadecimal"),
    ({"traceId": "q6urq6urq6urq6urq6urqw=="}, "traceId is not hexadecimal"),
    ({"traceId": 7}, "traceId is an integer, expected a string"),
    ({"spanId": None}, "spanId is 0 bytes, expected 8"),
    ({"parentSpanId": "abcd"}, "parentSpanId is 2 bytes"),
    ({"startTimeUnixNano": "0"}, "not between 2000 and 2100"),
    ({"startTimeUnixNano": "18446744073709551615"}, "not between 2000 and 2100"),
    ({"startTimeUnixNano": "soon"}, "startTimeUnixNano is a string, expected an integer"),
    ({"name": {"a": 1}}, "name is an object, expected a string"),
    ({"attributes": "x"}, "attributes is a string, expected an array"),
    ({"attributes": [{"key": 1, "value": {}}]}, "key is an integer, expected a string"),
    ({"attributes": [{"key": "a", "value": "plain"}]}, "attribute value is a string, expected an object"),
    (
        {"attributes": [{"key": "a", "value": {"intValue": "1.5"}}]},
        "intValue is a string, expected an integer",
    ),
    (
        {"attributes": [{"key": "a", "value": {"intValue": 2**70}}]},
        "does not fit 64 bits",
    ),
    ({"attributes": [{"key": "a", "value": {"boolValue": "yes"}}]}, "boolValue is a string"),
    ({"attributes": [{"key": "a", "value": {"bytesValue": "%%"}}]}, "bytesValue is not base64"),
    ({"attributes": [{"key": "a", "value": {"doubleValue": "x"}}]}, "doubleValue is not a number"),
    ({"status": []}, "status is an array, expected an object"),
    ({"events": [1]}, "events is an integer, expected an object"),
]


@pytest.mark.parametrize(("changes", "reason"), BAD_SPANS, ids=[reason for _, reason in BAD_SPANS])
def test_a_rejected_span_says_why(changes: dict[str, Any], reason: str) -> None:
    """The reason names the field, what was found and what was expected."""
    decoded = decode_json(json_request(json_span(**changes)))
    assert decoded.rows == []
    assert reason in decoded.describe_rejected()


def test_lenient_spellings_are_taken() -> None:
    """Numbers as strings or numbers, names of enumerations, upper-case ids, null and unknown fields."""
    span = json_span(
        traceId="AB" * 16,
        startTimeUnixNano=START_NS,
        endTimeUnixNano=str(START_NS + 7),
        kind="SPAN_KIND_SERVER",
        status={"code": "STATUS_CODE_ERROR"},
        links=None,
        parentSpanId="0000000000000000",
        invented={"x": [1]},
    )
    row = one(decode_json(json_request(span)))
    assert (row["TraceId"], row["Duration"], row["SpanKind"]) == ("ab" * 16, 7, "Server")
    assert (row["StatusCode"], row["ParentSpanId"]) == ("Error", "")


def test_snake_case_documents_are_taken() -> None:
    """Some writers keep protobuf's own field names."""
    span = {"trace_id": "ab" * 16, "span_id": "cd" * 8, "start_time_unix_nano": START_NS}
    span["attributes"] = [{"key": "a_b", "value": {"int_value": 5}}]
    body = json.dumps({"resource_spans": [{"scope_spans": [{"spans": [span]}]}]})
    assert one(decode_json(body))["SpanAttributes"] == {"a_b": "5"}


def test_a_span_that_never_ended_has_no_duration() -> None:
    """No end, or one before the start, is 0 and not a wrapped number."""
    for end in (0, START_NS - 5):
        assert one(decode_json(json_request(json_span(endTimeUnixNano=end))))["Duration"] == 0


def test_long_values_are_cut_and_marked() -> None:
    """A ten megabyte prompt does not cost the span its place; what was cut is named."""
    attributes = [{"key": "prompt", "value": {"stringValue": "x" * 10_000_000}}]
    decoded = decode_json(json_request(json_span(attributes=attributes)))
    found = one(decoded)["SpanAttributes"]
    assert len(found["prompt"]) == spans.MAX_VALUE_CHARS
    assert found["otel_cost.truncated_attributes"] == "prompt"
    assert decoded.truncated == 1


def nested(depth: int) -> AnyValue:
    """Return kvlists nested so deep."""
    value = AnyValue(string_value="bottom")
    for _ in range(depth):
        outer = AnyValue()
        outer.kvlist_value.values.add(key="k").value.CopyFrom(value)
        value = outer
    return value


def raw_nested(depth: int) -> bytes:
    """Return protobuf bytes of kvlists nested deeper than the library would build."""
    body = b""
    for _ in range(depth):
        pair = b"\x12" + varint(len(body)) + body
        values = b"\x0a" + varint(len(pair)) + pair
        body = b"\x32" + varint(len(values)) + values
    pair = b"\x0a\x01k\x12" + varint(len(body)) + body
    span = b"\x4a" + varint(len(pair)) + pair
    group = b"\x12" + varint(len(span)) + span
    resource = b"\x12" + varint(len(group)) + group
    return b"\x0a" + varint(len(resource)) + resource


def varint(number: int) -> bytes:
    """Return a protobuf varint."""
    out = b""
    while number > 127:
        out, number = out + bytes([number & 127 | 128]), number >> 7
    return out + bytes([number])


def json_nested(depth: int) -> str:
    """Return OTLP/JSON of kvlists nested so deep."""
    opened = '{"kvlistValue":{"values":[{"key":"k","value":' * depth
    return opened + "{}" + "}]}}" * depth


@pytest.mark.parametrize("depth", [16, 17])
def test_nesting_is_bounded(depth: int) -> None:
    """Sixteen levels are kept, seventeen are rejected, in both encodings."""
    request = request_of(1)
    span = request.resource_spans[0].scope_spans[0].spans[0]
    span.attributes.add(key="deep").value.CopyFrom(nested(depth - 1))
    text = json_request(json_span()).decode()
    text = text.replace('"name"', f'"attributes":[{{"key":"deep","value":{json_nested(depth - 1)}}}],"name"')
    for decoded in (decode_protobuf(request.SerializeToString()), decode_json(text)):
        assert len(decoded.rows) == (1 if depth == 16 else 0)
        assert decoded.rejected.total() == (0 if depth == 16 else 1)


def test_ten_thousand_levels_break_nothing() -> None:
    """Neither the C parsers nor Python's stack give way."""
    with pytest.raises(MalformedError):
        decode_protobuf(raw_nested(10_000))
    text = '{"resourceSpans":[{"scopeSpans":[{"spans":[{"attributes":[{"key":"a","value":'
    with pytest.raises(MalformedError):
        decode_json(text + json_nested(10_000) + "}]}]}]}]}")


def test_too_many_spans_or_attributes_are_refused() -> None:
    """Cheap bytes cannot make expensive objects without bound."""
    empty_spans = b"\x12\x00" * (spans.MAX_SPANS + 1)
    group = b"\x12" + varint(len(empty_spans)) + empty_spans
    with pytest.raises(MalformedError, match="spans, at most"):
        decode_protobuf(b"\x0a" + varint(len(group)) + group)
    many = [{"key": str(number)} for number in range(spans.MAX_ATTRIBUTES + 1)]
    decoded = decode_json(json_request(json_span(attributes=many)))
    assert "attributes, at most" in decoded.describe_rejected()


def test_columns_keep_the_order_of_the_rows() -> None:
    """What goes to the store is the rows, turned."""
    decoded = decode_protobuf(request_of(3).SerializeToString())
    columns = to_columns(decoded.rows)
    assert list(columns) == list(SPAN_COLUMNS)
    assert columns["SpanId"] == tuple(row[2] for row in decoded.rows)
    assert to_columns([])["SpanId"] == ()
