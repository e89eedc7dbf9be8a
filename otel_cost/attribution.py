"""Attribution: who pays for a span, and what in the application spent the money.

A payer is found, field by field, in this order: the span's own attributes, the enclosing `execution(...)` in
this process or (through baggage) in the calling service, enclosing spans, resource attributes, `OTEL_COST_*`
variables.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from typing import Any, NamedTuple

from opentelemetry import baggage, context, trace
from opentelemetry.context import Context

from otel_cost import attributes as names
from otel_cost.containment import contained
from otel_cost.errors import ConfigError

MAX_PAYER_TEXT = 128
"""Longer values are cut: a payer is a name or an id, and rollups group by it."""

BAGGAGE_PREFIX = "otel_cost."
EXECUTION_ID_NAME = names.EXECUTION_ID[0]

_PAYER_KEY = context.create_key("otel_cost.payer")
_BUDGET_KEY = context.create_key("otel_cost.budget")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]+")


class Payer(NamedTuple):
    """Who the money is attributed to, and what spent it. An empty text is unknown.

    Attributes:
        execution_id: The agent run; empty means the trace is the run.
    """

    execution_id: str = ""
    organization: str = ""
    team: str = ""
    user: str = ""
    feature: str = ""
    agent: str = ""
    component: str = ""
    environment: str = ""
    session: str = ""

    def over(self, other: Payer) -> Payer:
        """Return this payer with its unknown fields taken from another."""
        if other is NOBODY or self is other:
            return self
        if self is NOBODY:
            return other
        return Payer(*(own or theirs for own, theirs in zip(self, other, strict=True)))

    def attributes(self) -> dict[str, str]:
        """Return the known fields as span attributes (`otel_cost.team`, ...)."""
        return {name: text for name, text in zip(_ATTRIBUTES, self, strict=True) if text}


class Budget(NamedTuple):
    """What an `execution(...)` may spend.

    Attributes:
        scope: Its name in a ledger: `execution:<id>`, and a part behind it for a nested budget.
        limit_picousd: None: what the policy gives an execution.
        around: The budget around it, which it shares the money of.
        depth: How many executions it is in; 0 for the outermost.
        payer: Who began it, which the policy may have limits for.
        is_implied: Nobody began it with `execution(...)`: it is a trace, or a script. It has what the policy
            gives every execution, and each agent and feature a share of that.
    """

    execution_id: str
    scope: str
    limit_picousd: int | None = None
    around: Budget | None = None
    depth: int = 0
    payer: Payer = Payer()
    is_implied: bool = False

    def chain(self) -> Iterator[Budget]:
        """Yield this budget and those around it, from the inside out."""
        yield self
        if self.around is not None:
            yield from self.around.chain()


NOBODY = Payer()


def implied_budget(execution_id: str, payer: Payer = NOBODY) -> Budget:
    """Return the budget of an execution that no `execution(...)` began: a trace, or a script."""
    return Budget(execution_id, f"execution:{execution_id}", payer=payer, is_implied=True)


class Inherited(NamedTuple):
    """What a process takes over from the execution that started it."""

    payer: Payer = NOBODY
    budget: Budget | None = None


_of_process: list[Inherited] = [Inherited()]
_FIELDS = Payer._fields
_ATTRIBUTES = (EXECUTION_ID_NAME, *(BAGGAGE_PREFIX + name for name in _FIELDS[1:]))
_SOURCES = tuple((name, names.PAYER_NAMES.get(name, names.EXECUTION_ID)) for name in _FIELDS)
_SOURCE_NAMES = frozenset(alias for _, aliases in _SOURCES for alias in aliases)


def clean(value: object) -> str:
    """Return a payer's name fit for a column: text, one line, at most 128 characters."""
    if value is None or isinstance(value, bool | bytes) or not isinstance(value, str | int):
        return ""
    return _CONTROL.sub(" ", str(value)[: 2 * MAX_PAYER_TEXT]).strip()[:MAX_PAYER_TEXT]


def payer_of(attributes: Mapping[str, Any]) -> Payer:
    """Return the payer that attributes of a span or resource name, in any known convention."""
    if not attributes or _SOURCE_NAMES.isdisjoint(attributes):
        return NOBODY
    found = {}
    for name, aliases in _SOURCES:
        for alias in aliases:
            if text := clean(attributes.get(alias)):
                found[name] = text
                break
    return Payer(**found)


def payer_of_environment(environ: Mapping[str, str]) -> Payer:
    """Return the payer of the process: `OTEL_COST_TEAM`, `OTEL_COST_ORGANIZATION`, ..."""
    found = Payer(*(clean(environ.get(f"OTEL_COST_{name.upper()}")) for name in _FIELDS))
    return found if any(found) else NOBODY


def payer_of_context(at: Context | None = None) -> Payer:
    """Return the payer of the enclosing `execution(...)`, here or in the calling service."""
    at = context.get_current() if at is None else at
    inherited = _of_process[0].payer
    if not at:
        return inherited
    here = at.get(_PAYER_KEY)
    if isinstance(here, Payer):
        return here
    carried = baggage.get_all(at)
    if not carried:
        return inherited
    return Payer(*(clean(carried.get(name)) for name in _ATTRIBUTES)).over(inherited)


def budget_of_context(at: Context | None = None) -> Budget | None:
    """Return the budget of the enclosing `execution(...)`, here or around this process; None without any."""
    here = (context.get_current() if at is None else at).get(_BUDGET_KEY)
    return here if isinstance(here, Budget) else _of_process[0].budget


def inherit(inherited: Inherited) -> None:
    """Make everything in this process a part of an execution, where nothing nearer says otherwise."""
    _of_process[0] = inherited


def inside(inherited: Inherited, at: Context | None = None) -> Context:
    """Return a context inside of an execution that began in another process."""
    held = context.set_value(_PAYER_KEY, inherited.payer, at)
    return held if inherited.budget is None else context.set_value(_BUDGET_KEY, inherited.budget, held)


@contextmanager
def execution(
    execution_id: str | None = None,
    *,
    budget_usd: Decimal | str | float | None = None,
    organization: str | None = None,
    team: str | None = None,
    user: str | None = None,
    feature: str | None = None,
    agent: str | None = None,
    component: str | None = None,
    environment: str | None = None,
    session: str | None = None,
    propagate: bool = True,
) -> Iterator[Payer]:
    """Attribute what is spent inside to one execution and its payer.

    Nested executions inherit what they do not name, their id included: a sub-agent's spending rolls up into
    the run that started it. Where no span is open one is started, so that a bare loop of calls is one trace.

    Args:
        execution_id: Names the run; default: the enclosing one's, or a new id when there is no open span.
        budget_usd: What may be spent inside, in USD; a call that does not fit raises `BudgetExceeded`. Nested
            ones, and those inside a trace that have no id of their own, are capped by what is left around
            them. An id that was used before has the limit it was given last. Default: what the policy gives.
        propagate: Carry the payer to called services as baggage. Instrumented clients then send it with every
            request, also to third parties: turn it off, or hash ids (`OTEL_COST_HASH_KEY`), where it matters.

    Yields:
        The payer in force.

    Raises:
        ConfigError: The budget is not an amount of USD.
    """
    limit_picousd = None if budget_usd is None else _limit(budget_usd)
    asked = Payer(
        clean(execution_id),
        *(
            clean(text)
            for text in (organization, team, user, feature, agent, component, environment, session)
        ),
    )
    payer_around = payer_of_context()
    payer = asked.over(payer_around)
    is_root = not trace.get_current_span().get_span_context().is_valid
    if is_root and not payer.execution_id:
        payer = payer._replace(execution_id=uuid.uuid4().hex)
    shown = _pseudonymous(payer)
    held = _with_payer(payer, shown if propagate else NOBODY)
    budget = _budget(payer, limit_picousd, payer_around)
    if limit_picousd is not None and asked.execution_id:
        _begin(budget, limit_picousd)
    token = context.attach(context.set_value(_BUDGET_KEY, budget, held))
    try:
        if is_root:
            name = f"invoke_agent {payer.agent}" if payer.agent else "execution"
            with trace.get_tracer("otel_cost").start_as_current_span(name, attributes=shown.attributes()):
                yield payer
        else:
            yield payer
    finally:
        context.detach(token)


def _limit(budget_usd: Decimal | str | float) -> int:
    """Return a budget in pico-USD, and make sure that there is a guard to hold it."""
    from otel_cost.guard import clients
    from otel_cost.guard.control import budget_picousd

    limit_picousd = budget_picousd(budget_usd)
    clients.ensure()
    return limit_picousd


def _begin(budget: Budget, limit_picousd: int) -> None:
    """Have the guard hold a limit under a name that may have been used before."""
    from otel_cost.guard import clients

    guard = clients.current()
    if guard is not None:
        with contained("begin a budget"):
            guard.begin(budget, limit_picousd)


def _budget(payer: Payer, limit_picousd: int | None, payer_around: Payer) -> Budget:
    """Return the budget of an execution that begins: a part of the one around it, unless nothing is asked.

    Args:
        payer_around: Who pays for what is around it, such as a calling service's execution.
    """
    around = budget_of_context()
    execution_id = payer.execution_id
    if around is None and execution_id and execution_id != payer_around.execution_id:
        return Budget(execution_id, f"execution:{execution_id}", limit_picousd, payer=payer)
    if not execution_id:
        execution_id = f"{trace.get_current_span().get_span_context().trace_id:032x}"
    depth = 0 if around is None else around.depth + 1
    around = around or implied_budget(execution_id, payer_around)
    if execution_id != around.execution_id:
        return Budget(execution_id, f"execution:{execution_id}", limit_picousd, around, depth, payer)
    if limit_picousd is None:
        return around._replace(depth=depth)
    scope = f"{around.scope}/{uuid.uuid4().hex[:8]}"
    return Budget(execution_id, scope, limit_picousd, around, depth, payer)


def _with_payer(payer: Payer, carried: Payer) -> Context:
    """Return a context with a payer, and with what called services are told of it."""
    held = context.set_value(_PAYER_KEY, payer)
    for name, text in carried.attributes().items():
        held = baggage.set_baggage(name, text, held)
    return held


@dataclass(frozen=True, slots=True)
class Pseudonyms:
    """Replaces personal ids by keyed hashes, so that reports can group by person without naming one.

    Attributes:
        key: Secret of the HMAC-SHA256; without one nothing is replaced.
        fields: Payer fields that hold personal ids.
    """

    key: bytes = b""
    fields: tuple[str, ...] = ("user",)

    def apply(self, payer: Payer) -> Payer:
        """Return the payer with its personal ids replaced: `h:` and 32 hexadecimal digits."""
        if not self.key:
            return payer
        return payer._replace(**{name: self._hash(getattr(payer, name)) for name in self.fields})

    def _hash(self, text: str) -> str:
        if not text or text.startswith("h:"):
            return text
        return "h:" + hmac.new(self.key, text.encode(), hashlib.sha256).hexdigest()[:32]


@cache
def process_pseudonyms() -> Pseudonyms:
    """Return how this process hides personal ids: `OTEL_COST_HASH_KEY`, `OTEL_COST_HASH_FIELDS`."""
    from otel_cost.config import Config

    config = Config.load()
    return Pseudonyms(config.hash_key.encode(), config.hash_fields)


def _pseudonymous(payer: Payer) -> Payer:
    """Return a payer as others may see it; without its user where the settings cannot be read."""
    if not os.environ.get("OTEL_COST_HASH_KEY"):
        return payer
    try:
        return process_pseudonyms().apply(payer)
    except ConfigError:
        return payer._replace(user="")
