"""Spans on their way into the store: one row each, in the column order of `otel_traces`.

Both decoders end here, so what makes a span acceptable, and how a value becomes text, is written once. The
text is what the Collector's ClickHouse exporter writes, so that spans stored either way compare equal:
https://github.com/open-telemetry/opentelemetry-collector-contrib/tree/main/exporter/clickhouseexporter
"""

from __future__ import annotations

import base64
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import orjson

from otel_cost import attributes as names
from otel_cost.errors import MalformedError
from otel_cost.store import SPAN_COLUMNS

Row = tuple[Any, ...]
"""One span: a value per column of `SPAN_COLUMNS`, in its order."""

MAX_SPANS = 65_536
"""Spans in one request; the SDKs send 512 and the Collector 8,192 at most by default."""
MAX_ATTRIBUTES = 4_096
"""Attributes, events or links of one span: 32 times the SDKs' default; flattened messages need hundreds."""
MAX_DEPTH = 16
"""Levels of nesting in one attribute value; twice what tool schemas need, half of what protobuf can parse."""
MAX_VALUE_CHARS = 1_048_576
"""Longest attribute value kept whole. A longer one is cut: refusing it would lose the cost of its span."""
MIN_START_NS = 946_684_800 * 10**9
"""2000-01-01: a start before it is a clock that was never set."""
MAX_START_NS = 4_102_444_800 * 10**9
"""2100-01-01: ClickHouse orders spans by `toDateTime`, which wraps in 2106."""

SPAN_KINDS = ("Unspecified", "Internal", "Server", "Client", "Producer", "Consumer")
STATUS_CODES = ("Unset", "Ok", "Error")
_NO_TRACE, _NO_SPAN = bytes(16), bytes(8)
_REASONS_KEPT = 3


@dataclass(slots=True)
class Decoded:
    """The spans of one request: rows for the store, and what was refused and why."""

    rows: list[Row] = field(default_factory=list)
    rejected: Counter[str] = field(default_factory=Counter)
    truncated: int = 0
    """Attribute values that were cut to `MAX_VALUE_CHARS`."""

    def reject(self, reason: object) -> None:
        """Count a span that cannot be accepted."""
        self.rejected[str(reason)] += 1

    def describe_rejected(self) -> str:
        """Return why spans were refused, most frequent reason first; empty when none was."""
        parts = [f"{reason} ({count}x)" for reason, count in self.rejected.most_common(_REASONS_KEPT)]
        hidden = len(self.rejected) - len(parts)
        return "; ".join(parts) + (f"; and {hidden} more reasons" if hidden > 0 else "")


def to_columns(rows: Sequence[Row]) -> dict[str, Sequence[Any]]:
    """Return the rows as the columns `Store.insert_spans` takes."""
    if not rows:
        return dict.fromkeys(SPAN_COLUMNS, ())
    return dict(zip(SPAN_COLUMNS, zip(*rows, strict=True), strict=True))


def check_ids(trace_id: bytes, span_id: bytes, parent_span_id: bytes) -> None:
    """Raise `MalformedError` unless the ids can name a span.

    https://opentelemetry.io/docs/specs/otel/trace/api/#spancontext: 16 and 8 bytes, not all zero.
    """
    if len(trace_id) != 16 or trace_id == _NO_TRACE:
        raise MalformedError(_bad_id("traceId", trace_id, 16))
    if len(span_id) != 8 or span_id == _NO_SPAN:
        raise MalformedError(_bad_id("spanId", span_id, 8))
    if parent_span_id and len(parent_span_id) != 8:
        raise MalformedError(_bad_id("parentSpanId", parent_span_id, 8))


def _bad_id(name: str, value: bytes, size: int) -> str:
    found = "all zeros" if len(value) == size else f"{len(value)} bytes"
    return f"{name} is {found}, expected {size} bytes that are not all zero"


def check_start(start_ns: int) -> None:
    """Raise `MalformedError` unless the start, in nanoseconds since the epoch, lies in 2000 to 2099."""
    if not MIN_START_NS <= start_ns < MAX_START_NS:
        raise MalformedError(f"startTimeUnixNano={start_ns} is not between 2000 and 2100")


def check_count(name: str, count: int) -> None:
    """Raise `MalformedError` when a span has more attributes, events or links than anybody can read."""
    if count > MAX_ATTRIBUTES:
        raise MalformedError(f"a span has {count} {name}, at most {MAX_ATTRIBUTES} are accepted")


def check_spans(counts: Iterable[int]) -> None:
    """Raise `MalformedError` when a request holds more than `MAX_SPANS` spans."""
    total = sum(counts)
    if total > MAX_SPANS:
        raise MalformedError(
            f"the request holds {total} spans, at most {MAX_SPANS} are accepted: send less at once"
        )


def duration_ns(start_ns: int, end_ns: int) -> int:
    """Return the length of a span; 0 for one that never ended or whose clock went back."""
    return max(end_ns - start_ns, 0)


def span_kind(number: int) -> str:
    """Return the name of a span kind as the exporter writes it."""
    return SPAN_KINDS[number] if 0 <= number < len(SPAN_KINDS) else SPAN_KINDS[0]


def status_code(number: int) -> str:
    """Return the name of a status code as the exporter writes it."""
    return STATUS_CODES[number] if 0 <= number < len(STATUS_CODES) else STATUS_CODES[0]


def parent_hex(parent_span_id: bytes) -> str:
    """Return the parent's id in hexadecimal; empty for a root."""
    return "" if parent_span_id == _NO_SPAN else parent_span_id.hex()


def cut(attributes: dict[str, str], decoded: Decoded) -> None:
    """Shorten values beyond `MAX_VALUE_CHARS`, in place, and name them in an attribute."""
    if not attributes or max(map(len, attributes.values())) <= MAX_VALUE_CHARS:
        return
    long = [name for name, value in attributes.items() if len(value) > MAX_VALUE_CHARS]
    for name in long:
        attributes[name] = attributes[name][:MAX_VALUE_CHARS]
    attributes[names.TRUNCATED_ATTRIBUTES] = ",".join(long)[:MAX_VALUE_CHARS]
    decoded.truncated += len(long)


def float_text(value: float) -> str:
    """Return a double as Go's `encoding/json` and so the exporter writes it: `1`, `0.5`, `1e-7`, `1e+21`."""
    text = repr(value)
    if text.endswith(".0"):
        return text[:-2]
    if "e" not in text and math.isfinite(value):
        return text
    return _unusual_float(value, text)


def _unusual_float(value: float, text: str) -> str:
    if math.isnan(value):
        return "json: unsupported value: NaN"
    if math.isinf(value):
        return f"json: unsupported value: {'+Inf' if value > 0 else '-Inf'}"
    if 1e-6 <= abs(value) < 1e21:
        return format(Decimal(text), "f")
    return text.replace("e-0", "e-")


def bytes_text(value: bytes) -> str:
    """Return bytes in base64, as the exporter writes them."""
    return base64.b64encode(value).decode("ascii")


def json_text(value: Any) -> str:
    """Return a nested value as compact JSON with sorted keys, as the exporter writes it."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()


def json_number(value: float) -> float | int | None:
    """Return a double as it appears inside JSON: whole numbers without a fraction, no NaN."""
    if not math.isfinite(value):
        return None
    return int(value) if value.is_integer() and abs(value) < 2**53 else value


def event_ns(time_ns: int) -> int:
    """Return when an event happened, kept within what `DateTime64(9)` can hold."""
    return min(time_ns, MAX_START_NS)


def check_depth(depth: int) -> None:
    """Raise `MalformedError` when a value is nested deeper than `MAX_DEPTH`."""
    if depth > MAX_DEPTH:
        raise MalformedError(f"an attribute value is nested deeper than {MAX_DEPTH} levels")
