"""OTLP in JSON to rows. https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding

Ids are hexadecimal, 64-bit integers are decimal strings or numbers, enumerations are numbers (names are taken
too, as the Collector does), unknown fields are ignored. Field names in snake_case, which some writers use,
are accepted where the whole document uses them.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from typing import Any, TypeVar

import orjson

from otel_cost.errors import MalformedError
from otel_cost.server import spans
from otel_cost.server.spans import Decoded, Row

T = TypeVar("T")
_INTEGER = re.compile(r"-?[0-9]{1,20}\Z")
_KIND_NAMES = {f"SPAN_KIND_{name.upper()}": number for number, name in enumerate(spans.SPAN_KINDS)}
_STATUS_NAMES = {f"STATUS_CODE_{name.upper()}": number for number, name in enumerate(spans.STATUS_CODES)}


def decode_json(body: bytes | str) -> Decoded:
    """Return the spans of an OTLP/JSON document; those that cannot be accepted are counted, not raised.

    Raises:
        MalformedError: The body is not JSON, nested beyond the parser's limit, or not an OTLP trace request.
    """
    return flatten(parse(body))


def parse(body: bytes | str) -> Any:
    """Return the JSON document in a body.

    Raises:
        MalformedError: The body is not JSON in UTF-8.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise MalformedError(f"the body is not JSON: {error}") from error


def flatten(document: Any) -> Decoded:
    """Return the spans of a parsed OTLP/JSON document as rows."""
    if isinstance(document, dict) and "resource_spans" in document and "resourceSpans" not in document:
        document = _camel(document)
    if not isinstance(document, dict) or (document and "resourceSpans" not in document):
        raise MalformedError("the document has no resourceSpans: it is not an OTLP ExportTraceServiceRequest")
    groups = [
        (resource, _objects(resource, "scopeSpans")) for resource in _objects(document, "resourceSpans")
    ]
    spans.check_spans(len(_list(group, "spans")) for _, scopes in groups for group in scopes)
    decoded = Decoded()
    for resource_spans, scopes in groups:
        resource = _attributes(_object(resource_spans, "resource"))
        spans.cut(resource, decoded)
        for group in scopes:
            scope = _object(group, "scope")
            names = (_text(scope, "name"), _text(scope, "version"))
            _add_group(decoded, _list(group, "spans"), resource, names)
    return decoded


def _add_group(decoded: Decoded, group: list[Any], resource: dict[str, str], scope: tuple[str, str]) -> None:
    add, service = decoded.rows.append, resource.get("service.name", "")
    for span in group:
        try:
            add(_row(decoded, _expect("span", span, dict), resource, service, scope))
        except MalformedError as error:  # noqa: PERF203
            decoded.reject(error)


def _row(
    decoded: Decoded, span: dict[str, Any], resource: dict[str, str], service: str, scope: tuple[str, str]
) -> Row:
    trace_id, span_id = _id(span, "traceId"), _id(span, "spanId")
    parent, start = _id(span, "parentSpanId"), _integer(span, "startTimeUnixNano")
    spans.check_ids(trace_id, span_id, parent)
    spans.check_start(start)
    attributes, status = _attributes(span), _object(span, "status")
    spans.cut(attributes, decoded)
    events, links = _objects(span, "events"), _objects(span, "links")
    return (
        start,
        trace_id.hex(),
        span_id.hex(),
        spans.parent_hex(parent),
        _text(span, "traceState"),
        _text(span, "name"),
        spans.span_kind(_enumeration(span, "kind", _KIND_NAMES)),
        service,
        resource,
        *scope,
        attributes,
        spans.duration_ns(start, _integer(span, "endTimeUnixNano")),
        spans.status_code(_enumeration(status, "code", _STATUS_NAMES)),
        _text(status, "message"),
        *(_events(decoded, events) if events else ([], [], [])),
        *(_links(decoded, links) if links else ([], [], [], [])),
    )


def _events(decoded: Decoded, events: list[Any]) -> tuple[list[int], list[str], list[dict[str, str]]]:
    spans.check_count("events", len(events))
    attributes = [_attributes(event) for event in events]
    for one in attributes:
        spans.cut(one, decoded)
    times = [spans.event_ns(_integer(event, "timeUnixNano")) for event in events]
    return times, [_text(event, "name") for event in events], attributes


def _links(
    decoded: Decoded, links: list[Any]
) -> tuple[list[str], list[str], list[str], list[dict[str, str]]]:
    spans.check_count("links", len(links))
    attributes = [_attributes(link) for link in links]
    for one in attributes:
        spans.cut(one, decoded)
    return (
        [_id(link, "traceId").hex() for link in links],
        [_id(link, "spanId").hex() for link in links],
        [_text(link, "traceState") for link in links],
        attributes,
    )


def _attributes(owner: dict[str, Any]) -> dict[str, str]:
    pairs = _list(owner, "attributes")
    spans.check_count("attributes", len(pairs))
    found = {}
    for pair in pairs:
        if type(pair) is not dict:
            raise MalformedError(_wrong("attribute", pair, dict))
        key, value = pair.get("key"), pair.get("value")
        if type(value) is dict:
            text = value.get("stringValue")
            if type(text) is not str:
                text = _value_text(value)
        elif value is None:
            text = ""
        else:
            raise MalformedError(_wrong("attribute value", value, dict))
        found[key if type(key) is str else _text(pair, "key")] = text
    return found


def _value_text(value: dict[str, Any]) -> str:
    whole = value.get("intValue")
    if whole is not None:
        return whole if _is_plain_integer(whole) else str(_as_integer("intValue", whole))
    member, content = _member(value)
    if member == "boolValue":
        return "true" if _expect(member, content, bool) else "false"
    if member == "doubleValue":
        return spans.float_text(_as_float(content))
    if member in ("arrayValue", "kvlistValue"):
        return spans.json_text(_plain(value, 1))
    plain = _plain(value, 1)
    return "" if plain is None else str(plain)


def _is_plain_integer(value: Any) -> bool:
    """Return whether an integer is text that needs no conversion, as nearly all are."""
    return (
        type(value) is str and len(value) < 19 and value.isascii() and value.isdecimal() and value[0] != "0"
    )


def _member(value: dict[str, Any]) -> tuple[str, Any]:
    for member, content in value.items():
        if member in _READERS and content is not None:
            return member, content
    return "", None


def _plain(value: Any, depth: int) -> Any:
    """Return an AnyValue as plain Python, ready for JSON."""
    spans.check_depth(depth)
    member, content = _member(_expect("value", {} if value is None else value, dict))
    return _READERS[member](content, depth) if member else None


def _read_string(content: Any, depth: int) -> str:
    return _expect("stringValue", content, str)


def _read_bool(content: Any, depth: int) -> bool:
    return _expect("boolValue", content, bool)


def _read_integer(content: Any, depth: int) -> int:
    return _as_integer("intValue", content)


def _read_double(content: Any, depth: int) -> float | int | None:
    return spans.json_number(_as_float(content))


def _read_bytes(content: Any, depth: int) -> str:
    text = _expect("bytesValue", content, str).replace("-", "+").replace("_", "/")
    try:
        return spans.bytes_text(base64.b64decode(text + "=" * (-len(text) % 4), validate=True))
    except (binascii.Error, ValueError) as error:
        raise MalformedError(f"bytesValue is not base64: {error}") from error


def _read_array(content: Any, depth: int) -> list[Any]:
    return [_plain(item, depth + 1) for item in _list(_expect("arrayValue", content, dict), "values")]


def _read_kvlist(content: Any, depth: int) -> dict[str, Any]:
    pairs = _objects(_expect("kvlistValue", content, dict), "values")
    return {_text(pair, "key"): _plain(pair.get("value"), depth + 1) for pair in pairs}


_READERS: dict[str, Callable[[Any, int], Any]] = {
    "stringValue": _read_string,
    "boolValue": _read_bool,
    "intValue": _read_integer,
    "doubleValue": _read_double,
    "bytesValue": _read_bytes,
    "arrayValue": _read_array,
    "kvlistValue": _read_kvlist,
}


def _expect(name: str, value: Any, kind: type[T]) -> T:
    if type(value) is not kind:
        raise MalformedError(_wrong(name, value, kind))
    return value


def _wrong(name: str, value: object, kind: type) -> str:
    words = {dict: "an object", list: "an array", str: "a string", bool: "true or false", int: "an integer"}
    found = "null" if value is None else words.get(type(value), "a number")
    return f"{name} is {found}, expected {words[kind]}"


def _list(owner: dict[str, Any], name: str) -> list[Any]:
    value = owner.get(name)
    return [] if value is None else _expect(name, value, list)


def _objects(owner: dict[str, Any], name: str) -> list[dict[str, Any]]:
    return [_expect(name, item, dict) for item in _list(owner, name)]


def _object(owner: dict[str, Any], name: str) -> dict[str, Any]:
    value = owner.get(name)
    return {} if value is None else _expect(name, value, dict)


def _text(owner: dict[str, Any], name: str) -> str:
    value = owner.get(name)
    return "" if value is None else _expect(name, value, str)[: spans.MAX_VALUE_CHARS]


def _id(owner: dict[str, Any], name: str) -> bytes:
    text = _text(owner, name)
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise MalformedError(f"{name} is not hexadecimal, which OTLP/JSON writes ids in") from None


def _integer(owner: dict[str, Any], name: str) -> int:
    value = owner.get(name)
    return 0 if value is None else _as_integer(name, value)


def _as_integer(name: str, value: Any) -> int:
    kind = type(value)
    if not (kind is int or (kind is str and _INTEGER.match(value)) or (kind is float and value.is_integer())):
        raise MalformedError(_wrong(name, value, int))
    number = int(value)
    if not -(2**63) <= number < 2**64:
        raise MalformedError(f"{name}={number} does not fit 64 bits")
    return number


def _as_float(value: Any) -> float:
    if type(value) in (int, float):
        return float(value)
    try:
        return float(_expect("doubleValue", value, str))
    except ValueError:
        raise MalformedError("doubleValue is not a number") from None


def _enumeration(owner: dict[str, Any], name: str, names: dict[str, int]) -> int:
    value = owner.get(name)
    if type(value) is str and value in names:
        return names[value]
    return 0 if value is None else _as_integer(name, value)


def _camel(value: Any) -> Any:
    """Return a document with its field names in lowerCamelCase. In OTLP/JSON every key is a field name."""
    if isinstance(value, dict):
        return {_camel_name(key): _camel(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_camel(item) for item in value]
    return value


def _camel_name(name: str) -> str:
    head, *tail = name.split("_")
    return head + "".join(part.capitalize() for part in tail)
