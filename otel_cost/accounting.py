"""Which spans count, and how much of each: the rules of docs/architecture.md, over any set of spans.

The same rules stand in SQL (clickhouse/). The conformance suite holds both to the same answers.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from otel_cost.usage import AGGREGATE, MODEL, OTHER, TOOL, Reading, Usage

if TYPE_CHECKING:
    from otel_cost.pricing import Charge

DUPLICATE_RESPONSE_ID = "duplicate_response_id"
DUPLICATE_CALL = "duplicate_call"
COVERED_BY_DESCENDANTS = "covered_by_descendants"
COVERED_BY_ANCESTOR = "covered_by_ancestor"
USAGE_ON_LOG = "usage_on_log"

MAX_DEPTH = 1_000
"""Ancestors looked at; a longer chain is a cycle or a broken emitter."""

_K = TypeVar("_K", bound=Hashable)


Id = str | int
"""An id of a trace or span: its number or its hexadecimal digits, alike for all spans that are compared."""


class Span(NamedTuple):
    """What accounting needs to know of one span; times in unix nanoseconds."""

    trace_id: Id
    span_id: Id
    parent_span_id: Id = ""
    scope: str = ""
    started_ns: int = 0
    ended_ns: int = 0
    reading: Reading | None = None
    charge: Charge | None = None
    is_error: bool = False

    @property
    def span_class(self) -> str:
        """`model`, `tool`, `aggregate` or `other`."""
        return self.reading.span_class if self.reading else OTHER

    @property
    def usage(self) -> Usage | None:
        """The usage it carries, if any."""
        return self.reading.usage if self.reading else None

    @property
    def response_id(self) -> str:
        """The provider's id of the response, or of the tool call; empty when not known."""
        return self.reading.response_id if self.reading else ""

    @property
    def has_amount(self) -> bool:
        """Whether it says how much was used or paid."""
        return self.reading is not None and self.reading.has_amount


class Entry(NamedTuple):
    """One span's part in the total.

    Attributes:
        counted: Whether it adds to totals.
        reason: Why not, empty when it counts.
        cost_picousd: What it adds: its own cost, or what its descendants leave of it; None when unknown.
        input_tokens: Input it adds, cached included.
        is_remainder: Whether only a remainder counts.
    """

    span: Span
    counted: bool = True
    reason: str = ""
    cost_picousd: int | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    is_remainder: bool = False


Key = tuple[Id, Id]


def account(spans: Iterable[Span]) -> dict[Key, Entry]:
    """Decide for each billable span whether and for how much it counts.

    Args:
        spans: Every span known, in any order, repeated or not. Spans that concern no model are needed where
            they stand between two that do. Same `trace_id` and `span_id` is the same span.

    Returns:
        One entry per billable span, by `(trace_id, span_id)`. Independent of order and repetition.
    """
    by_key = {(span.trace_id, span.span_id): span for span in spans}
    billable = {key: span for key, span in by_key.items() if span.reading and span.reading.is_billable}
    dropped: dict[Key, str] = {}
    _drop_same_response(billable, dropped)
    _drop_same_call(billable, dropped)
    _drop_logfire_requests(billable, dropped)
    kept = {key: span for key, span in billable.items() if key not in dropped}
    entries = _cover(by_key, kept)
    for key, reason in dropped.items():
        entries[key] = Entry(billable[key], counted=False, reason=reason)
    return entries


def richness(span: Span) -> int:
    """Count the details of usage a span knows: what tells two records of one call apart."""
    usage = span.usage
    if usage is None:
        return -1
    details = (
        usage.cache_read_tokens,
        usage.cache_write_tokens,
        usage.cache_write_1h_tokens,
        usage.reasoning_tokens,
        usage.audio_input_tokens,
        usage.audio_output_tokens,
    )
    return sum(amount > 0 for amount in details)


def best_first(span: Span) -> tuple[object, ...]:
    """Order records of one call: single calls, sound, rich in detail, innermost."""
    assert span.reading is not None  # only billable spans are compared
    return (
        span.span_class == AGGREGATE,
        not span.has_amount,
        span.reading.is_estimate,
        -richness(span),
        -span.started_ns,
        span.ended_ns,
        span.trace_id,
        span.span_id,
    )


def response_key(span: Span) -> Hashable:
    """Return what two records of one response share; None for a span that names none.

    Ids of tool calls are made by models, which number them anew in each conversation, so they say something
    within one trace and about one tool only.
    """
    reading = span.reading
    if reading is None or not reading.response_id:
        return None
    if reading.span_class == TOOL:
        return TOOL, reading.response_id, span.trace_id, reading.tool_name
    return MODEL, reading.response_id


def is_same_response(one: Span, other: Span) -> bool:
    """Whether two records with one `response_key` can be of one call: ids of some servers come again.

    Two of three must agree: the model, the totals (or one says none), and the time.
    """
    if one.span_class == TOOL:
        return _overlap(one, other)
    is_same_model = _model_of(one) == _model_of(other)
    is_same_usage = one.usage is None or other.usage is None or one.usage.totals == other.usage.totals
    return is_same_model + is_same_usage + _overlap(one, other) >= 2


def _drop_same_response(billable: dict[Key, Span], dropped: dict[Key, str]) -> None:
    named = (span for span in billable.values() if span.response_id)
    for group in _group(named, response_key).values():
        is_tool = group[0].span_class == TOOL
        for span in _second_tool_records(group) if is_tool else _second_records(group):
            dropped[span.trace_id, span.span_id] = DUPLICATE_RESPONSE_ID


def _second_tool_records(group: Iterable[Span]) -> Iterator[Span]:
    """Yield tool calls that another scope recorded too: one that runs again may have the id of the first."""
    for same in _by_rank(group):
        best, *others = sorted(same, key=best_first)
        yield from (span for span in others if is_same_response(best, span))


def _second_records(group: Iterable[Span]) -> Iterator[Span]:
    """Yield records that a better one makes superfluous: of all, of their model, or of their totals too."""
    best: dict[Hashable, Span] = {}
    for span in sorted(group, key=best_first):
        model, totals = _model_of(span), span.usage.totals if span.usage else None
        rivals = [best.setdefault(key, span) for key in ((), (model,), (model, totals))]
        if any(rival is not span and is_same_response(rival, span) for rival in rivals):
            yield span


def _drop_same_call(billable: dict[Key, Span], dropped: dict[Key, str]) -> None:
    """Match the calls of different scopes pairwise in start order; a scope never duplicates itself."""
    calls = (span for key, span in billable.items() if key not in dropped and _shape(span) is not None)
    for group in _group(calls, _shape).values():
        for same in _by_rank(group):
            best, *others = sorted(same, key=best_first)
            for span in others:
                if is_same_call(best, span):
                    dropped[span.trace_id, span.span_id] = DUPLICATE_CALL


def _shape(span: Span) -> Hashable:
    return call_shape(span, *_totals([span]))


def _by_rank(group: Iterable[Span]) -> Iterable[list[Span]]:
    """Put the first call of every scope together, then the second of every scope, and so on."""
    ranks: dict[int, list[Span]] = defaultdict(list)
    for of_scope in _group(group, lambda span: span.scope).values():
        ordered = sorted(of_scope, key=lambda span: (span.started_ns, span.span_id))
        for rank, span in enumerate(ordered):
            ranks[rank].append(span)
    return ranks.values()


def call_shape(span: Span, input_tokens: int, output_tokens: int) -> Hashable:
    """Return what two instrumentations of one call agree on; None where that does not tell a second record.

    Args:
        input_tokens: All its input, cached included.
        output_tokens: All its output, reasoning included.
    """
    reading = span.reading
    assert reading is not None  # only billable spans are asked
    if reading.span_class == TOOL:
        return (span.trace_id, TOOL, reading.tool_name) if reading.tool_name else None
    if reading.span_class != MODEL or reading.usage is None:
        return None
    return span.trace_id, _model_of(span), input_tokens, output_tokens


def _model_of(span: Span) -> str:
    """Return the model a span is priced at, else the one it names, alike for every way of writing it."""
    return _model_key((span.charge and span.charge.model) or (span.reading.model if span.reading else ""))


@lru_cache(maxsize=1024)
def _model_key(model: str) -> str:
    """Return a model's name, alike for every way of writing it."""
    return model.lower().rsplit("/", 1)[-1]


def is_same_call(best: Span, other: Span) -> bool:
    """Whether two records overlap in time and do not name different responses."""
    ids = {best.response_id, other.response_id} - {""}
    return len(ids) < 2 and _overlap(best, other)


def _overlap(one: Span, other: Span) -> bool:
    return one.started_ns <= other.ended_ns and other.started_ns <= one.ended_ns


def _drop_logfire_requests(billable: dict[Key, Span], dropped: dict[Key, str]) -> None:
    """Logfire puts a stream's usage on a later span of zero length; the request's span then says nothing."""
    logs = _group((span for span in billable.values() if is_logfire_log(span)), logfire_shape)
    for key, span in billable.items():
        if key in dropped or not is_logfire_request(span):
            continue
        if any(log.started_ns >= span.started_ns for log in logs.get(logfire_shape(span), ())):
            dropped[key] = USAGE_ON_LOG


def is_logfire_request(span: Span) -> bool:
    """Whether a span may be a streamed request of Logfire's, whose usage comes on a later span."""
    return span.scope.startswith("logfire") and not span.has_amount


def is_logfire_log(span: Span) -> bool:
    """Whether a span is the later one, of zero length, that has the usage."""
    return span.started_ns == span.ended_ns and span.scope.startswith("logfire") and span.usage is not None


def logfire_shape(span: Span) -> tuple[Id, str, str]:
    """Return what a streamed request and the span with its usage agree on."""
    assert span.reading is not None  # only billable spans are asked
    return span.trace_id, span.scope, span.reading.request_model


def _cover(by_key: dict[Key, Span], kept: dict[Key, Span]) -> dict[Key, Entry]:
    below: dict[Key, list[Span]] = defaultdict(list)
    above: dict[Key, list[Span]] = defaultdict(list)
    for span in kept.values():
        for ancestor in _covering_ancestors(span, by_key, kept):
            below[ancestor.trace_id, ancestor.span_id].append(span)
            above[span.trace_id, span.span_id].append(ancestor)
    leaves = {
        key: [d for d in spans if d.has_amount and not _has_amount_below(d, below)]
        for key, spans in below.items()
    }
    valid = {key for key, span in kept.items() if span.has_amount and _holds(span, leaves.get(key, ()))}
    return {key: _entry(span, leaves.get(key, []), above.get(key, []), valid) for key, span in kept.items()}


def _covering_ancestors(span: Span, by_key: dict[Key, Span], kept: dict[Key, Span]) -> Iterator[Span]:
    """Yield the ancestors whose usage may hold this span's.

    A model call does not hold what a tool or an agent below it spent, an agent does.
    """
    crossed = span.span_class == AGGREGATE
    seen = {span.span_id}
    parent = by_key.get((span.trace_id, span.parent_span_id))
    while parent is not None and parent.span_id not in seen and len(seen) < MAX_DEPTH:
        seen.add(parent.span_id)
        key = (parent.trace_id, parent.span_id)
        if key in kept and parent.span_class != TOOL and not (parent.span_class == MODEL and crossed):
            yield parent
        crossed = crossed or parent.span_class in (TOOL, AGGREGATE)
        parent = by_key.get((parent.trace_id, parent.parent_span_id))


def _has_amount_below(span: Span, below: dict[Key, list[Span]]) -> bool:
    return any(d.has_amount for d in below.get((span.trace_id, span.span_id), ()))


def _holds(span: Span, leaves: Sequence[Span]) -> bool:
    """Whether a span's own total is at least what is below it, so that a remainder makes sense."""
    if span.usage is None:
        known = [leaf.charge.cost_picousd for leaf in leaves if leaf.charge]
        cost = span.charge.cost_picousd if span.charge else None
        return cost is not None and cost >= sum(amount or 0 for amount in known)
    inputs, outputs = _totals(leaves)
    return span.usage.total_input_tokens >= inputs and span.usage.total_output_tokens >= outputs


def _totals(spans: Iterable[Span]) -> tuple[int, int]:
    totals = [span.usage.totals for span in spans if span.usage]
    return sum(inputs for inputs, _ in totals), sum(outputs for _, outputs in totals)


def _entry(span: Span, leaves: Sequence[Span], above: Sequence[Span], valid: set[Key]) -> Entry:
    held_above = any(a.has_amount and (a.trace_id, a.span_id) in valid for a in above)
    if span.span_class == TOOL:
        return _whole(span)
    if not span.has_amount:
        if leaves:
            return Entry(span, counted=False, reason=COVERED_BY_DESCENDANTS)
        return Entry(span, counted=False, reason=COVERED_BY_ANCESTOR) if held_above else _whole(span)
    if not leaves:
        return _whole(span)
    if held_above or (span.trace_id, span.span_id) not in valid:
        return Entry(span, counted=False, reason=COVERED_BY_DESCENDANTS)
    return _remainder(span, leaves)


def _whole(span: Span) -> Entry:
    inputs, outputs = _totals([span])
    cost = span.charge.cost_picousd if span.charge else None
    return Entry(span, cost_picousd=cost, input_tokens=inputs, output_tokens=outputs)


def _remainder(span: Span, leaves: Sequence[Span]) -> Entry:
    inputs, outputs = _totals([span])
    leaf_inputs, leaf_outputs = _totals(leaves)
    cost = _cost_difference(span, leaves)
    entry = Entry(
        span,
        cost_picousd=cost,
        input_tokens=max(0, inputs - leaf_inputs),
        output_tokens=max(0, outputs - leaf_outputs),
        is_remainder=True,
    )
    if entry.input_tokens or entry.output_tokens or (span.usage is None and cost):
        return entry
    return Entry(span, counted=False, reason=COVERED_BY_DESCENDANTS)


def _cost_difference(span: Span, leaves: Sequence[Span]) -> int | None:
    own = span.charge.cost_picousd if span.charge else None
    parts = [leaf.charge.cost_picousd if leaf.charge else None for leaf in leaves]
    if own is None or None in parts:
        return None
    return max(0, own - sum(part for part in parts if part is not None))


def _group(spans: Iterable[Span], key: Callable[[Span], _K]) -> dict[_K, list[Span]]:
    groups: dict[_K, list[Span]] = defaultdict(list)
    for span in spans:
        groups[key(span)].append(span)
    return groups
