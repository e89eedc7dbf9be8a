"""Child processes: each belongs to the execution that starts it, and spends its budget.

A forked child has the context of its parent. A program that is started gets variables, and a worker that
multiprocessing spawns, or a task of a pool of processes, gets them along with what it is sent.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qsl, urlencode

import wrapt
from opentelemetry import context

from otel_cost.attribution import Budget, Inherited, inherit, inside, payer_of, payer_of_context
from otel_cost.containment import contained, count
from otel_cost.errors import BudgetExceeded, ConfigError
from otel_cost.ledger.open import LEDGER
from otel_cost.process import at_server_start, carried, inherited_trace, is_server, script_name

if TYPE_CHECKING:
    from otel_cost.guard import Guard

logger = logging.getLogger("otel_cost")

INHERITED = "OTEL_COST_INHERITED"
"""What a child takes over: the execution, its scope in the ledger, depth and payer, as a query string."""

_followed: list[bool] = []


def is_child() -> bool:
    """Return whether an execution started this process."""
    return INHERITED in os.environ and not is_server(script_name() or "")


def follow() -> None:
    """Carry executions into what this process starts, and join the one that started it. Once is enough."""
    if _followed:
        return
    _followed.append(True)
    if is_child():
        with contained("join an execution"):
            _join_as_process(os.environ)
    wrapt.wrap_function_wrapper("subprocess", "Popen.__init__", _start_program)
    wrapt.register_post_import_hook(_hook_processes, "multiprocessing.process")
    wrapt.register_post_import_hook(_hook_pools, "concurrent.futures.process")
    wrapt.register_post_import_hook(_hook_workers, "multiprocessing.pool")
    if hasattr(os, "register_at_fork"):
        with suppress(ImportError):
            import otel_cost.ledger.sqlite  # noqa: F401 (hooks run last first: its files close after ours)
        os.register_at_fork(before=_before_fork)


def variables() -> dict[str, str]:
    """Return what makes a child process that starts now a part of the execution around it."""
    guard = _guard()
    budget = guard.budget_around() if guard else None
    if guard is None or budget is None:
        return {}
    said: dict[str, object] = {"execution": budget.execution_id, "scope": budget.scope, "depth": budget.depth}
    if budget.limit_picousd is not None:
        said["limit_picousd"] = budget.limit_picousd
    found = {**carried(), INHERITED: urlencode({**said, **payer_of_context().attributes()})}
    path = _shared(guard, budget)
    return {**found, LEDGER: str(path)} if path else found


def inherited(environ: Mapping[str, str]) -> Inherited:
    """Return what the variables of a child process say.

    Raises:
        ValueError: Nothing that `variables` wrote.
    """
    said = dict(parse_qsl(environ[INHERITED], strict_parsing=True))
    limit = int(said["limit_picousd"]) if "limit_picousd" in said else None
    payer = payer_of(said)
    return Inherited(payer, Budget(said["execution"], said["scope"], limit, None, int(said["depth"]), payer))


def _guard() -> Guard | None:
    from otel_cost.guard import clients

    return clients.current()


def _shared(guard: Guard, budget: Budget) -> Path | None:
    """Let other processes spend a budget, and count with us. Returns the file they share, if there is one."""
    from otel_cost.ledger.shared import SharedLedger
    from otel_cost.ledger.sqlite import SqliteLedger

    ledger, path = guard.ledger, None
    try:
        if isinstance(ledger, SharedLedger):
            path = ledger.share(budget.scope, even_unlimited=guard.limits_steps)
        elif isinstance(ledger, SqliteLedger):
            path = ledger.path
        guard.share_steps(budget)
    except ConfigError as error:
        logger.warning("a child process does not share its execution's budget: %s", error)
    except Exception as error:
        count("share a budget with a child process", error)
    return path


def _expect(pid: int | None) -> None:
    from otel_cost.ledger.shared import SharedLedger

    guard = _guard()
    if pid is not None and guard is not None and isinstance(guard.ledger, SharedLedger):
        guard.ledger.expect(pid)


# --- in the parent ----------------------------------------------------------------------------------------


def _before_fork() -> None:
    with contained("share a budget with a forked process"):
        variables()


def _start_program(
    wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    added: dict[str, str] = {}
    with contained("carry the execution into a program"):
        added = variables()
        if len(args) > _ENV:
            args = (*args[:_ENV], _environment(args[_ENV], added), *args[_ENV + 1 :])
        elif added:
            kwargs = {**kwargs, "env": _environment(kwargs.get("env"), added)}
    result = wrapped(*args, **kwargs)
    if LEDGER in added:
        with contained("keep a ledger for a program"):
            _expect(instance.pid)
    return result


_ENV = 10
"""Where `env` stands among the positional arguments of `subprocess.Popen`."""


def _environment(given: Mapping[Any, Any] | None, added: Mapping[str, str]) -> Mapping[Any, Any] | None:
    """Return a program's environment with ours. What the caller set otherwise than it is here stays."""
    if not added:
        return given
    held = dict(os.environ if given is None else given)
    for name, text in added.items():
        here = os.environ.get(name)
        if held.get(name, here) == here:
            held[name] = text
    return held


def _hook_processes(module: Any) -> None:
    def start(
        wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        added: dict[str, str] = {}
        with contained("carry the execution into a worker"):
            added = variables()
            if added:
                instance._otel_cost_inherited = _Passed(added)
        try:
            result = wrapped(*args, **kwargs)
        finally:
            vars(instance).pop("_otel_cost_inherited", None)
        if LEDGER in added:
            with contained("keep a ledger for a worker"):
                _expect(instance.pid)
        return result

    with contained("follow multiprocessing"):
        wrapt.wrap_function_wrapper(module, "BaseProcess.start", start)


def _hook_pools(module: Any) -> None:
    def submit(
        wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        added: dict[str, str] = {}
        with contained("carry the execution into a pool of processes"):
            added = variables()
        if not added or not args:
            return wrapped(*args, **kwargs)
        return wrapped(run_in, added, args[0], args[1:], kwargs)

    with contained("follow pools of processes"):
        wrapt.wrap_function_wrapper(module, "ProcessPoolExecutor.submit", submit)


# --- workers of multiprocessing.pool ----------------------------------------------------------------------


def _hook_workers(module: Any) -> None:
    """Have refusals come out of pools as errors do: a worker only knows what to do with an `Exception`."""

    def submit(
        wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if _guard() is None:
            return wrapped(*args, **kwargs)
        if "func" in kwargs:
            return wrapped(*args, **{**kwargs, "func": partial(carried_out, kwargs["func"])})
        at = _TASK[wrapped.__name__]
        return wrapped(*args[:at], partial(carried_out, args[at]), *args[at + 1 :], **kwargs)

    def take(
        wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        index, (is_done, value) = args
        result = (False, value.exceeded) if isinstance(value, CarriedOut) else (is_done, value)
        return wrapped(index, result)

    with contained("follow multiprocessing's pools"):
        for kind in ("ApplyResult", "MapResult", "IMapIterator", "IMapUnorderedIterator"):
            wrapt.wrap_function_wrapper(module, f"{kind}._set", take)
        for name in _TASK:
            wrapt.wrap_function_wrapper(module, f"Pool.{name}", submit)


_TASK = {"apply_async": 0, "_guarded_task_generation": 1}
"""Where what each task calls stands among the arguments of those of a pool's methods that make tasks."""


class CarriedOut(NamedTuple):
    """What a task returns that was refused a call."""

    exceeded: BudgetExceeded


def carried_out(call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Run a task of a pool; return a refusal as a value, which is raised where the result is taken."""
    try:
        return call(*args, **kwargs)
    except BudgetExceeded as exceeded:
        return CarriedOut(exceeded)


# --- in the child -----------------------------------------------------------------------------------------


class _Passed:
    """Goes to a worker with the process object that multiprocessing pickles, and acts as it arrives."""

    def __init__(self, variables: dict[str, str]) -> None:
        self._variables = variables

    def __reduce__(self) -> tuple[Callable[..., None], tuple[dict[str, str]]]:
        return take_over, (self._variables,)


def take_over(variables: Mapping[str, str]) -> None:
    """Make this process, which multiprocessing spawned, a part of the execution that started it."""
    from otel_cost.guard import clients

    with contained("join an execution"):
        clients.ensure()
        _join_as_process(variables)
        context.attach(inherited_trace(variables) or context.get_current())


def run_in(
    variables: Mapping[str, str], call: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Any:
    """Run a task of a pool inside the execution that submitted it."""
    with _inside(variables):
        return call(*args, **kwargs)


@contextmanager
def _inside(variables: Mapping[str, str]) -> Iterator[None]:
    from otel_cost.guard import clients

    held = context.get_current()
    with contained("join an execution"):
        clients.ensure()
        found = inherited(variables)
        held = inside(found, inherited_trace(variables))
        _join(found, variables)
    token = context.attach(held)
    try:
        yield
    finally:
        context.detach(token)


def _join_as_process(variables: Mapping[str, str]) -> None:
    found = inherited(variables)
    inherit(found)
    at_server_start(lambda: inherit(Inherited()))
    _join(found, variables)


def _join(found: Inherited, variables: Mapping[str, str]) -> None:
    """Spend from the file that the parent shares, where it shares one."""
    from otel_cost.ledger.shared import SharedLedger

    guard = _guard()
    path = variables.get(LEDGER)
    if path and found.budget and guard is not None and isinstance(guard.ledger, SharedLedger):
        guard.ledger.join(Path(path), found.budget.scope)
