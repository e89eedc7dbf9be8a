"""Patterns of waste in a running execution, with what each has cost so far, and the limits on its steps.

A `Watch` takes what happens in one execution: model calls that ended, and the steps between them (which tools
ran, with what outcome). It answers with findings; the policy says which warns and which ends. It keeps
hashes and counters, never text, and as much after a million calls as after fifty.

A pattern belongs to one conversation, since sub-agents that run side by side may do the same thing once each.
Thresholds are measured: docs/detectors.md.
"""

from __future__ import annotations

import itertools
import os
import re
import threading
import time
import weakref
import zlib
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

from otel_cost.ledger import Tally
from otel_cost.money import usd_text

IDENTICAL_CALLS = "identical_calls"
PING_PONG = "ping_pong"
NEAR_IDENTICAL_CALLS = "near_identical_calls"
RETRY_STORM = "retry_storm"
CONTEXT_GROWTH = "context_growth"
LIMIT = "limit:"
"""How the kind of a finding begins that is about a limit on steps."""
DETECTORS = (IDENTICAL_CALLS, PING_PONG, NEAR_IDENTICAL_CALLS, RETRY_STORM, CONTEXT_GROWTH)

DEFAULT_THRESHOLDS: Mapping[str, Mapping[str, float]] = MappingProxyType(
    {
        IDENTICAL_CALLS: MappingProxyType({"calls": 3, "within_calls": 5}),
        PING_PONG: MappingProxyType({"rounds": 3}),
        NEAR_IDENTICAL_CALLS: MappingProxyType({"calls": 5, "similarity_ratio": 0.6}),
        RETRY_STORM: MappingProxyType(
            {"discarded_replies": 3, "failed_model_calls": 5, "failed_tool_calls": 8, "same_requests": 10}
        ),
        CONTEXT_GROWTH: MappingProxyType({"calls": 8, "growth_ratio": 1.25}),
    }
)
"""How much of a pattern is a finding, per detector. What each number means is said at `Thresholds`."""

MAX_EXECUTIONS = 8_192
"""Executions watched, some 8 kB each at most. The one that was quiet the longest is forgotten first."""
MAX_CONVERSATIONS = 2_048
"""Conversations of all these executions together, 30 kB each at most, forgotten likewise."""
MAX_KNOWN = 32
"""Calls and results a conversation remembers; what comes back later than that counts as new."""
MAX_SIMILAR_TOOLS = 4
MAX_TOOLS = 64
"""Tools counted apart; past that the least used one gives way."""
MAX_NAME = 128
MAX_PERIOD = 4
"""Longest round of calls that is looked for: A B, A B C, A B C D."""
SKETCH_SIZE = 16
SKETCHED_CHARACTERS = 2_048
_WORD = re.compile(rb"[\w\x80-\xff]+")


class Thresholds(NamedTuple):
    """How much of a pattern is a finding.

    Attributes:
        identical_calls: Calls of one tool with the same arguments and the same outcome.
        identical_within_calls: Tool calls between two of them, at most, where they fail.
        ping_pong_rounds: Times the same two to four calls were made in the same order.
        near_calls: Calls of one tool with nearly the same arguments that all fail or all bring the same.
        near_similarity_ratio: Share of words two calls must have in common to be nearly the same.
        discarded_replies: Replies in a row that the agent could not use.
        failed_model_calls: Requests in a row that the provider answered with an error, or not at all. The
            SDKs send a failing request three times, so five are more than one call of the application.
        failed_tool_calls: Tool calls in a row that failed.
        same_requests: Times one request was sent again although it had been answered.
        growth_calls: Model calls in a row without progress.
        growth_ratio: What a call then costs, over what it cost when there was progress last.
    """

    identical_calls: float
    identical_within_calls: float
    ping_pong_rounds: float
    near_calls: float
    near_similarity_ratio: float
    discarded_replies: float
    failed_model_calls: float
    failed_tool_calls: float
    same_requests: float
    growth_calls: float
    growth_ratio: float


def thresholds(changed: Mapping[str, Mapping[str, float]] | None = None) -> Thresholds:
    """Return the default thresholds with some of them changed, in the form of `DEFAULT_THRESHOLDS`.

    Raises:
        ValueError: A name that does not exist, or a number that is not positive.
    """
    changed = changed or {}
    for detector, values in changed.items():
        known = DEFAULT_THRESHOLDS.get(detector, {})
        for name, value in values.items():
            if name not in known:
                raise ValueError(f"there is no threshold {detector}.{name}; there are {_names()}")
            if not value > 0:
                raise ValueError(f"{detector}.{name} is {value}; write a number above 0")
    merged = {detector: {**values, **changed.get(detector, {})} for detector, values in _defaults()}
    return Thresholds(*(value for values in merged.values() for value in values.values()))


def _defaults() -> Iterator[tuple[str, Mapping[str, float]]]:
    yield from DEFAULT_THRESHOLDS.items()


def _names() -> str:
    return ", ".join(f"{detector}.{name}" for detector, values in _defaults() for name in values)


class ModelCallOutcome(NamedTuple):
    """A model call that ended.

    Attributes:
        cost_picousd: As the ledger counted it.
        is_failed: The provider answered with an error, or not at all.
        is_discarded: The agent could not use the reply and threw it away; None where nobody knows.
        conversation: Which conversation it belongs to; see `Step`.
    """

    cost_picousd: int
    input_tokens: int = 0
    output_tokens: int = 0
    model: str = ""
    is_failed: bool = False
    is_discarded: bool | None = None
    conversation: int = 0


class ToolCallOutcome(NamedTuple):
    """A tool call that ended.

    Attributes:
        arguments: Fingerprint of its arguments.
        sketch: Of its arguments, as `sketch` makes it; empty: never nearly the same as another.
        is_failed: It is known to have failed.
        result: Fingerprint of what it returned; None where that is not known.
    """

    name: str
    arguments: int
    sketch: frozenset[int] = frozenset()
    is_failed: bool = False
    result: int | None = None


class Step(NamedTuple):
    """What an agent did between two of its requests.

    Attributes:
        tool_calls: That ended in between, in the order they were asked for.
        is_malformed: The reply before it asked for tools in a way nobody can read.
        news: Fingerprint of what else is new in the request, such as a user's message; None without.
        tail: Fingerprint of where the conversation stands: the same when a request is sent again; 0: unknown.
        conversation: Fingerprint of how it began; 0: unknown.
    """

    tool_calls: tuple[ToolCallOutcome, ...] = ()
    is_malformed: bool = False
    news: int | None = None
    tail: int = 0
    conversation: int = 0


@dataclass(frozen=True, slots=True)
class Finding:
    """Something a policy may act on. It comes when its pattern is complete, and each time it has doubled.

    Attributes:
        kind: One of `DETECTORS`, or `limit:` and the name of a limit.
        message: For people, with the cost.
        cost_picousd: What the pattern has cost so far, or the execution for a limit.
        count: How often: calls, rounds, replies, seconds.
        subject: The tool or the model; empty where there is none.
    """

    kind: str
    message: str
    cost_picousd: int
    count: int
    subject: str = ""


class StepLimits(Protocol):
    """Limits on the steps of an execution, as `otel_cost.budgets.ExecutionLimits` has them. None: none."""

    @property
    def max_model_calls(self) -> int | None:
        """Requests to models."""
        ...

    @property
    def max_tool_calls(self) -> int | None:
        """Calls of tools."""
        ...

    @property
    def max_calls_per_tool(self) -> Mapping[str, int | None]:
        """Calls of single tools; empty: none is limited."""
        ...

    @property
    def max_total_tokens(self) -> int | None:
        """Input and output tokens together."""
        ...

    @property
    def max_wall_time_s(self) -> float | None:
        """Seconds since the execution was first seen."""
        ...

    @property
    def max_depth(self) -> int | None:
        """Executions or agents inside each other, 0 for the outermost."""
        ...

    def calls_of(self, tool: str) -> int | None:
        """Return how often a tool may be called."""
        ...


def fingerprint(text: str) -> int:
    """Return 64 bits that stand for a text in this process, and in those forked from it."""
    return hash(text)


def sketch(text: str) -> frozenset[int]:
    """Return the 16 smallest hashes of the words at the start of a text.

    How many of them two texts share estimates how many words they do (bottom-k sketches, Cohen and Kaplan
    2007); with no more than 16 different words in both together it is exact.
    """
    words = set(_WORD.findall(text[:SKETCHED_CHARACTERS].encode("utf-8", "surrogatepass")))
    return frozenset(sorted(map(zlib.crc32, words))[:SKETCH_SIZE])


def similarity_ratio(one: frozenset[int], other: frozenset[int]) -> float:
    """Return the share of words that two sketched texts have in common, 0 to 1."""
    shared = one & other
    if not shared:
        return 0.0
    union = one | other
    if len(union) > SKETCH_SIZE:
        union = frozenset(sorted(union)[:SKETCH_SIZE])
    return len(shared & union) / len(union)


Exchange = Callable[[float, Mapping[str, int]], Tally | None]
"""Tells other processes of an execution its age in s, and what was counted since they were told last.

Returns what all of them counted; None where that is not known.
"""
MODEL_CALLS, TOOL_CALLS, TOKENS, COST, TOOL = "model_calls", "tool_calls", "tokens", "cost_picousd", "tool:"
"""Names of what is counted; the last one begins that of a tool's calls."""


class Watch:
    """Watches one execution. Safe under threads.

    Args:
        limits: How much of a pattern is a finding.
        clock: Seconds that never go back.
        conversations: Where it keeps its conversations, together with other watches.
    """

    __slots__ = (
        "_clock",
        "_conversations",
        "_head_start_s",
        "_lock",
        "_number",
        "_others",
        "_started_at_s",
        "_told",
        "_tools",
        "cost_picousd",
        "model_calls",
        "tokens",
        "tool_calls",
    )

    def __init__(
        self,
        limits: Thresholds | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        conversations: _Conversations | None = None,
    ) -> None:
        self.model_calls = self.tool_calls = self.tokens = self.cost_picousd = 0
        self._clock, self._started_at_s = clock, clock()
        self._tools: dict[str, int] = {}
        self._others: Mapping[str, int] = {}
        self._told: Mapping[str, int] = {}
        self._head_start_s = 0.0
        self._conversations = conversations or _Conversations(limits or thresholds())
        self._number = next(_numbers)
        self._lock = threading.RLock()

    def begin(self, limits: StepLimits, *, depth: int = 0, exchange: Exchange | None = None) -> list[Finding]:
        """Count a model call that is about to be sent; return the limits it would pass.

        Tools run before anybody asks, so of them a limit is passed by the one call too many; the request that
        carries its result is the first that can be stopped.

        Args:
            exchange: Where other processes count, too.
        """
        with self._lock:
            self.model_calls += 1
            self._exchange(exchange)
            return self._passed(limits, depth)

    def take_back(self, exchange: Exchange | None = None) -> None:
        """Uncount a model call that was begun and not sent."""
        with self._lock:
            self.model_calls = max(0, self.model_calls - 1)
            self._exchange(exchange)

    def share(self, exchange: Exchange) -> None:
        """Tell what was counted before another process begins to."""
        with self._lock:
            self._exchange(exchange)

    def answered(self, call: ModelCallOutcome, exchange: Exchange | None = None) -> list[Finding]:
        """Take a model call that ended; return the patterns it completes."""
        with self._lock:
            self.cost_picousd += call.cost_picousd
            self.tokens += call.input_tokens + call.output_tokens
            self._exchange(exchange)
            return self._conversations.of(self._number, call.conversation).answered(call)

    def stepped(self, step: Step) -> list[Finding]:
        """Take what happened between two requests; return the patterns it completes."""
        with self._lock:
            conversation = self._conversations.of(self._number, step.conversation)
            if conversation.is_repeated(step):
                return conversation.repeated()
            for call in step.tool_calls:
                self._count(call.name[:MAX_NAME])
            return conversation.stepped(step)

    def after_fork(self) -> None:
        """Take new locks: in a forked child the old ones may belong to threads it has not.

        What was counted before the fork, the parent tells.
        """
        self._lock = threading.RLock()
        self._conversations.after_fork()
        self._told = self._counted()

    def _count(self, tool: str) -> None:
        self.tool_calls += 1
        self._tools[tool] = self._tools.get(tool, 0) + 1
        if len(self._tools) > MAX_TOOLS:
            others = (name for name in self._tools if name != tool)
            del self._tools[min(others, key=self._tools.__getitem__)]

    def _counted(self) -> dict[str, int]:
        """Return what this process counted."""
        tools = {f"{TOOL}{name}": calls for name, calls in self._tools.items()}
        amounts = (self.model_calls, self.tool_calls, self.tokens, self.cost_picousd)
        return {**dict(zip((MODEL_CALLS, TOOL_CALLS, TOKENS, COST), amounts, strict=True)), **tools}

    def _exchange(self, exchange: Exchange | None) -> None:
        """Tell other processes what is new here, and learn what they counted."""
        if exchange is None:
            return
        own, age_s = self._counted(), self._clock() - self._started_at_s
        told = exchange(age_s, {name: value - self._told.get(name, 0) for name, value in own.items()})
        if told is not None:
            self._told = own
            self._others = {name: max(0, value - own.get(name, 0)) for name, value in told.counts.items()}
            self._head_start_s = max(self._head_start_s, told.age_s - age_s)

    def _passed(self, limits: StepLimits, depth: int) -> list[Finding]:
        others, found = self._others, []
        if (limit := limits.max_model_calls) is not None:
            calls = self.model_calls + others.get(MODEL_CALLS, 0)
            if calls > limit:
                found.append(self._limit("max_model_calls", f"model call {calls}", limit, calls))
        if (limit := limits.max_tool_calls) is not None:
            calls = self.tool_calls + others.get(TOOL_CALLS, 0)
            if calls > limit:
                found.append(self._limit("max_tool_calls", f"{calls} tool calls", limit, calls))
        if limits.max_calls_per_tool:
            found += self._tools_passed(limits)
        if (limit := limits.max_total_tokens) is not None:
            tokens = self.tokens + others.get(TOKENS, 0)
            if tokens >= limit:
                found.append(self._limit("max_total_tokens", f"{tokens} tokens", limit, tokens))
        if limits.max_wall_time_s is not None:
            found += self._time_passed(limits.max_wall_time_s)
        if (limit := limits.max_depth) is not None and depth > limit:
            found.append(self._limit("max_depth", f"depth {depth}", limit, depth))
        return found

    def _tools_passed(self, limits: StepLimits) -> Iterator[Finding]:
        theirs = {name[len(TOOL) :]: calls for name, calls in self._others.items() if name.startswith(TOOL)}
        for tool in {**self._tools, **theirs}:
            calls, limit = self._tools.get(tool, 0) + theirs.get(tool, 0), limits.calls_of(tool)
            if limit is not None and calls > limit:
                yield self._limit("max_calls_per_tool", f"{calls} calls of {tool}", limit, calls, tool)

    def _time_passed(self, limit_s: float) -> Iterator[Finding]:
        elapsed_s = self._clock() - self._started_at_s + self._head_start_s
        if elapsed_s >= limit_s:
            yield self._limit("max_wall_time_s", f"{elapsed_s:.1f} s", limit_s, int(elapsed_s))

    def _limit(self, name: str, told: str, limit: float, value: int, subject: str = "") -> Finding:
        cost_picousd = self.cost_picousd + self._others.get(COST, 0)
        cost = f"the execution has cost ${usd_text(cost_picousd)} so far"
        message = f"{name}: {told}, where {limit} are allowed; {cost}"
        return Finding(LIMIT + name, message, cost_picousd, value, subject)


class Watches:
    """A watch for each execution, the quiet ones forgotten first. Safe under threads and fork.

    Attributes:
        forgotten: Watches dropped to stay within `max_executions`; their counts begin anew if they go on.
    """

    def __init__(
        self,
        limits: Thresholds | None = None,
        *,
        max_executions: int = MAX_EXECUTIONS,
        max_conversations: int = MAX_CONVERSATIONS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.forgotten = 0
        self._max, self._clock = max_executions, clock
        self._conversations = _Conversations(limits or thresholds(), max_conversations)
        self._watches: OrderedDict[str, Watch] = OrderedDict()
        self._lock = threading.RLock()
        _registries.add(self)

    def __len__(self) -> int:
        return len(self._watches)

    def of(self, execution_id: str) -> Watch:
        """Return the watch of an execution, a new one for a new execution."""
        with self._lock:
            found = self._watches.get(execution_id)
            if found is not None:
                self._watches.move_to_end(execution_id)
                return found
            found = Watch(clock=self._clock, conversations=self._conversations)
            self._watches[execution_id] = found
            if len(self._watches) > self._max:
                self._watches.popitem(last=False)
                self.forgotten += 1
            return found

    def forget(self, execution_id: str) -> None:
        """Drop an execution that ended."""
        with self._lock:
            self._watches.pop(execution_id, None)

    def after_fork(self) -> None:
        """Take new locks, as `Watch.after_fork` does."""
        self._lock = threading.RLock()
        self._conversations.after_fork()
        for watch in list(self._watches.values()):
            watch.after_fork()


Outcome = tuple[bool, int | None]
"""What came of a call: whether it failed, and the fingerprint of its result."""


class _Made(NamedTuple):
    """A call that was made: its tool, a hash of tool and arguments, and what came of it."""

    tool: str
    key: int
    outcome: Outcome

    def is_repeat_of(self, other: _Made) -> bool:
        return self.key == other.key and _is_same(self.outcome, other.outcome)


class _Streak:
    """Something in a row: how often, and what it has cost."""

    __slots__ = ("cost_picousd", "count", "due_at")

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.count = self.cost_picousd = self.due_at = 0

    def add(self, cost_picousd: int) -> None:
        self.count += 1
        self.cost_picousd += cost_picousd

    def is_due(self, threshold: float) -> bool:
        """Whether to report it: first at its threshold, then each time it has doubled."""
        if self.count < threshold or self.count < self.due_at:
            return False
        self.due_at = 2 * self.count
        return True

    def finding(self, kind: str, what: str, subject: str = "") -> Finding:
        message = f"{kind}: {self.count} {what}, ${usd_text(self.cost_picousd)} so far"
        return Finding(kind, message, self.cost_picousd, self.count, subject)


class _Known(_Streak):
    """A call that was made: how often with the same outcome, and when last."""

    __slots__ = ("at", "outcome")

    at: int
    outcome: Outcome


class _Similar(_Streak):
    """The last call of a tool, and how many nearly like it led there."""

    __slots__ = ("key", "outcome", "sketch")

    key: int
    outcome: Outcome
    sketch: frozenset[int]


def _bound(recent: dict[Any, Any], size: int) -> None:
    """Forget what was used least recently."""
    if len(recent) > size:
        del recent[next(iter(recent))]


def _is_same(one: Outcome, other: Outcome) -> bool:
    """Whether two outcomes are alike; a result that is not known is like any other."""
    return one[0] == other[0] and (one[1] == other[1] or one[1] is None or other[1] is None)


class _Conversation:
    """The patterns of one conversation."""

    __slots__ = (
        "_at",
        "_discarded",
        "_failed_calls",
        "_failed_tools",
        "_growth",
        "_is_answered",
        "_known",
        "_model",
        "_pending_picousd",
        "_progress_at",
        "_results",
        "_rounds",
        "_same",
        "_similar",
        "_tail",
        "_thresholds",
    )

    def __init__(self, limits: Thresholds) -> None:
        self._thresholds = limits
        self._known: dict[int, _Known] = {}
        self._results: dict[int, bool] = {}
        self._similar: dict[str, _Similar] = {}
        self._rounds = _Rounds()
        self._growth = _Growth()
        self._discarded, self._failed_calls, self._failed_tools = _Streak(), _Streak(), _Streak()
        self._same = _Streak()
        self._at = self._progress_at = self._pending_picousd = self._tail = 0
        self._is_answered = False
        self._model = ""

    def answered(self, call: ModelCallOutcome) -> list[Finding]:
        """Take a model call that ended."""
        self._model = call.model[:MAX_NAME]
        self._pending_picousd += call.cost_picousd
        found = self._failures(call)
        if call.is_discarded is not None:
            found += self._discard(call.is_discarded, call.cost_picousd)
        return found if call.is_failed else found + self._grown(call.cost_picousd)

    def is_repeated(self, step: Step) -> bool:
        """Whether it is the same request again, whose step was taken before."""
        return bool(step.tail) and step.tail == self._tail

    def repeated(self) -> list[Finding]:
        """Take a request that was sent again. After an error that is a retry, and counted there."""
        if not self._is_answered:
            return []
        self._is_answered = False
        self._same.add(self._take_pending())
        if not self._same.is_due(self._thresholds.same_requests):
            return []
        return [self._same.finding(RETRY_STORM, "answers to the same request thrown away", self._model)]

    def stepped(self, step: Step) -> list[Finding]:
        """Take what happened since the last request."""
        self._tail, self._is_answered = step.tail, False
        self._same.reset()
        cost_picousd = self._take_pending()
        found: list[Finding] = []
        if step.is_malformed:
            found += self._discard(True, cost_picousd)
        elif step.tool_calls:
            self._discarded.reset()
        if step.news is not None and self._is_new(step.news):
            self._growth.progressed()
        if step.tool_calls:
            shares = _shares(cost_picousd, len(step.tool_calls))
            for call, share in zip(step.tool_calls, shares, strict=True):
                found += self._called(call, share)
        return found

    def _take_pending(self) -> int:
        taken, self._pending_picousd = self._pending_picousd, 0
        return taken

    def _grown(self, cost_picousd: int) -> list[Finding]:
        growth, limits = self._growth, self._thresholds
        growth.take(cost_picousd)
        if not (growth.is_climbing(limits.growth_ratio) and growth.is_due(limits.growth_calls)):
            return []
        return [growth.finding(CONTEXT_GROWTH, "dearer and dearer calls without progress", self._model)]

    def _failures(self, call: ModelCallOutcome) -> list[Finding]:
        if not call.is_failed:
            self._is_answered = True
            self._failed_calls.reset()
            return []
        self._failed_calls.add(call.cost_picousd)
        if not self._failed_calls.is_due(self._thresholds.failed_model_calls):
            return []
        return [self._failed_calls.finding(RETRY_STORM, "failed model calls in a row", self._model)]

    def _discard(self, is_discarded: bool, cost_picousd: int) -> list[Finding]:
        if not is_discarded:
            self._discarded.reset()
            return []
        self._discarded.add(cost_picousd)
        if not self._discarded.is_due(self._thresholds.discarded_replies):
            return []
        return [self._discarded.finding(RETRY_STORM, "replies in a row thrown away", self._model)]

    def _called(self, call: ToolCallOutcome, cost_picousd: int) -> Iterator[Finding]:
        self._at += 1
        tool = call.name[:MAX_NAME]
        made = _Made(tool, hash((tool, call.arguments)), (call.is_failed, call.result))
        is_progress = self._is_progress(made)
        yield from self._identical(made, cost_picousd)
        yield from self._nearly(made, call.sketch, cost_picousd)
        yield from self._going_round(made, cost_picousd)
        yield from self._failing(made, cost_picousd)
        if is_progress:
            self._progressed(tool)

    def _is_progress(self, made: _Made) -> bool:
        """Whether a call brought the agent on: it worked, and it or what came of it is new."""
        has_failed, result = made.outcome
        is_news = result is not None and self._is_new(result)
        return not has_failed and (is_news or made.key not in self._known)

    def _progressed(self, tool: str) -> None:
        self._progress_at = self._at
        self._growth.progressed()
        for name, similar in self._similar.items():
            if name != tool:
                similar.reset()

    def _is_new(self, result: int) -> bool:
        is_new = self._results.pop(result, True)
        self._results[result] = False
        _bound(self._results, MAX_KNOWN)
        return is_new

    def _identical(self, made: _Made, cost_picousd: int) -> Iterator[Finding]:
        """The same call with the same outcome.

        One that works is only idle when nothing new came of anything since: after an edit, running the tests
        again is work. One that fails is idle at once, but not once the agent has long done other things.
        """
        known = self._known.pop(made.key, None) or _Known()
        self._known[made.key] = known
        _bound(self._known, MAX_KNOWN)
        if known.count and not self._is_idle(known, made.outcome):
            known.reset()
        known.add(cost_picousd)
        known.at, known.outcome = self._at, made.outcome
        if known.is_due(self._thresholds.identical_calls):
            yield known.finding(IDENTICAL_CALLS, f"calls of {made.tool} with the same arguments", made.tool)

    def _is_idle(self, known: _Known, outcome: Outcome) -> bool:
        if not _is_same(known.outcome, outcome):
            return False
        if outcome[0]:
            return self._at - known.at <= self._thresholds.identical_within_calls
        return known.at >= self._progress_at

    def _nearly(self, made: _Made, words: frozenset[int], cost_picousd: int) -> Iterator[Finding]:
        """Calls of one tool with nearly the same arguments that all fail, or all bring the same.

        A search that is put otherwise and finds something else is work. Identical calls are left to
        `_identical`; they neither make such a row nor end it.
        """
        last = self._similar.pop(made.tool, None) or _Similar()
        self._similar[made.tool] = last
        _bound(self._similar, MAX_SIMILAR_TOOLS)
        if last.count and last.key == made.key:
            last.cost_picousd += cost_picousd
            return
        if not (last.count and self._is_near(last, made.outcome, words)):
            last.reset()
        last.add(cost_picousd)
        last.key, last.sketch, last.outcome = made.key, words, made.outcome
        if last.is_due(self._thresholds.near_calls):
            what = f"calls of {made.tool} with nearly the same arguments"
            yield last.finding(NEAR_IDENTICAL_CALLS, what, made.tool)

    def _is_near(self, last: _Similar, outcome: Outcome, words: frozenset[int]) -> bool:
        is_idle = outcome[0] if last.outcome[0] else _is_same(last.outcome, outcome)
        return is_idle and similarity_ratio(last.sketch, words) >= self._thresholds.near_similarity_ratio

    def _going_round(self, made: _Made, cost_picousd: int) -> Iterator[Finding]:
        for period, streak in self._rounds.add(made, cost_picousd):
            if streak.is_due(self._thresholds.ping_pong_rounds * period):
                tools = " ".join(self._rounds.tools(period))
                rounds = streak.count // period
                message = f"{PING_PONG}: {rounds} rounds of {tools}, ${usd_text(streak.cost_picousd)} so far"
                yield Finding(PING_PONG, message, streak.cost_picousd, rounds, tools)

    def _failing(self, made: _Made, cost_picousd: int) -> Iterator[Finding]:
        if not made.outcome[0]:
            self._failed_tools.reset()
            return
        self._failed_tools.add(cost_picousd)
        if self._failed_tools.is_due(self._thresholds.failed_tool_calls):
            yield self._failed_tools.finding(RETRY_STORM, "failed tool calls in a row", made.tool)


class _Rounds:
    """Finds rounds: the same two to four calls, in the same order, with the same outcomes."""

    __slots__ = ("_last", "_streaks")

    def __init__(self) -> None:
        self._last: deque[tuple[_Made, int]] = deque(maxlen=MAX_PERIOD)
        self._streaks = {period: _Streak() for period in range(2, MAX_PERIOD + 1)}

    def add(self, made: _Made, cost_picousd: int) -> Iterator[tuple[int, _Streak]]:
        """Take a call; yield the rounds it goes on with, by the calls in each."""
        last = list(self._last)
        self._last.append((made, cost_picousd))
        is_constant = bool(last) and made.is_repeat_of(last[-1][0])
        for period, streak in self._streaks.items():
            if len(last) < period or is_constant or not made.is_repeat_of(last[-period][0]):
                if streak.count:
                    streak.reset()
                continue
            if not streak.count:
                for _, cost in last[-period:]:
                    streak.add(cost)
            streak.add(cost_picousd)
            yield period, streak

    def tools(self, period: int) -> list[str]:
        """Return the tools of the last round."""
        return [made.tool for made, _ in list(self._last)[-period:]]


class _Growth(_Streak):
    """Model calls since there was progress last, and how what they cost has climbed.

    A context that grows is no sign of trouble: in healthy runs it grows twelvefold. It is one when nothing
    comes of it, and only where progress can be seen at all: a conversation without any is not judged.
    """

    __slots__ = ("_average_picousd", "_base_picousd", "_has_progressed")

    def __init__(self) -> None:
        super().__init__()
        self._average_picousd = self._base_picousd = 0
        self._has_progressed = False

    def progressed(self) -> None:
        """Begin anew from what a call costs now."""
        self.reset()
        self._base_picousd = self._average_picousd
        self._has_progressed = True

    def take(self, cost_picousd: int) -> None:
        """Count a model call. The average leans on the last four or so."""
        first = not self._average_picousd
        self._average_picousd = cost_picousd if first else (3 * self._average_picousd + cost_picousd) // 4
        self._base_picousd = self._base_picousd or self._average_picousd
        self.add(cost_picousd)

    def is_climbing(self, growth_ratio: float) -> bool:
        """Whether a call costs that many times what it did."""
        return self._has_progressed and 0 < self._base_picousd * growth_ratio <= self._average_picousd


class _Conversations:
    """The conversations of one watch, or of many together. Safe under threads."""

    def __init__(self, limits: Thresholds, size: int = MAX_CONVERSATIONS) -> None:
        self._thresholds, self._size = limits, size
        self._held: OrderedDict[tuple[int, int], _Conversation] = OrderedDict()
        self._lock = threading.RLock()

    def of(self, watch: int, conversation: int) -> _Conversation:
        """Return a conversation of a watch, a new one where it is new or forgotten."""
        key = (watch, conversation)
        with self._lock:
            found = self._held.get(key)
            if found is None:
                found = self._held[key] = _Conversation(self._thresholds)
                if len(self._held) > self._size:
                    self._held.popitem(last=False)
            else:
                self._held.move_to_end(key)
            return found

    def after_fork(self) -> None:
        self._lock = threading.RLock()


_numbers = itertools.count()
"""Tells the conversations of one watch from those of another."""


def _shares(cost_picousd: int, parts: int) -> Iterator[int]:
    """Yield a cost in equal whole parts that add up to it."""
    for left in range(parts, 0, -1):
        share = cost_picousd // left
        cost_picousd -= share
        yield share


_registries: weakref.WeakSet[Watches] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for registry in list(_registries):
        registry.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
