"""Price stored charges again at the book now in the warehouse, auditably: plan, note, write, and undo.

A run prepares every later version of a charge in `repriced` before it writes the first one, so a dry run is
a run that stops there. It works by parts of a day, notes each one it has finished, and goes on there after a
kill.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from otel_cost.errors import ConfigError, StoreError
from otel_cost.store.actor import actor
from otel_cost.store.dsn import Server
from otel_cost.store.period import EPOCH

if TYPE_CHECKING:
    from otel_cost.store.client import Store

CHARGES_PER_SLICE = 200_000
"""Charges priced by one statement: some hundred megabytes, and about a second."""
VISIBLE_AFTER_S = 3.0
"""How much later than its statement a version is, on a server: longer than a slice takes to be written."""
FIRST_DAY = EPOCH.date()
FOREVER = datetime(2100, 1, 1, tzinfo=timezone.utc)
HALF_WRITTEN = ("applying", "stopped")
"""States of a run that has changed charges and has others to change."""
_UNFINISHED = ("planning", *HALF_WRITTEN)
STEPS = ("stage", "account", "total", "apply", "settle")

_SETTINGS = {
    "short_circuit_function_evaluation": "disable",
    "optimize_and_compare_chain": 0,
    "compile_expressions": 0,
    "max_partitions_per_insert_block": 0,
}
"""As for inserts, where long plain expressions are slow otherwise, but partitions must not all be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Which charges to price again.

    Attributes:
        since, until: When they began, UTC; from the one up to and without the other.
        model: As the span or the price entry names it; empty for any.
        provider: Likewise, in any case.
        unpriced_only: Only those that have no price yet.
    """

    since: datetime = EPOCH
    until: datetime = FOREVER
    model: str = ""
    provider: str = ""
    unpriced_only: bool = False


@dataclass(slots=True, kw_only=True)
class Run:
    """A row of `repricing_runs`; its comment says what the fields are."""

    run_id: str
    undoes_run_id: str = ""
    state: str = "planning"
    worker: str = ""
    began_at: datetime = EPOCH
    noted_at: datetime = EPOCH
    actor: str = ""
    reason: str = ""
    since: datetime = EPOCH
    until: datetime = FOREVER
    model: str = ""
    provider: str = ""
    unpriced_only: bool = False
    price_version: str = ""
    step: str = STEPS[0]
    day: date = FIRST_DAY
    after_trace_id: str = ""
    charges: int = 0
    changed: int = 0
    newly_priced: int = 0
    newly_unpriced: int = 0
    old_cost_usd: Decimal = Decimal(0)
    new_cost_usd: Decimal = Decimal(0)

    @property
    def difference_usd(self) -> Decimal:
        """What the totals change by, USD."""
        return self.new_cost_usd - self.old_cost_usd


@dataclass(frozen=True, slots=True)
class ModelTotals:
    """What a run changes of one model or tool; amounts are what counts, USD."""

    provider: str
    model: str
    charges: int
    changed: int
    newly_priced: int
    newly_unpriced: int
    old_cost_usd: Decimal
    new_cost_usd: Decimal

    @property
    def difference_usd(self) -> Decimal:
        """What the total changes by, USD."""
        return self.new_cost_usd - self.old_cost_usd


_AMOUNTS = tuple(item.name for item in fields(ModelTotals))[2:]


@dataclass(slots=True)
class Report:
    """A run and what it changed, or for a dry run would change, per model."""

    run: Run
    models: list[ModelTotals] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Return the report ready for JSON; money is `Decimal`."""
        made = asdict(self.run) | {"difference_usd": self.run.difference_usd}
        for name in ("worker", "step", "day", "after_trace_id"):
            made.pop(name)
        rows = [asdict(each) | {"difference_usd": each.difference_usd} for each in self.models]
        return made | {"models": rows}


Progress = Callable[[str, int, int], None]
"""Told the step, and how many of how many charges it has finished."""


def _silent(step: str, done: int, total: int) -> None:
    """Tell nobody."""


def reprice(
    store: Store, asked: Asked, *, dry_run: bool = False, reason: str = "", progress: Progress = _silent
) -> Report:
    """Price charges again at the book now in the store, at the rates that held when each call began.

    Amounts that a provider billed stay. All others are computed anew, those that a process wrote on its spans
    too.

    Args:
        dry_run: Change nothing, and report what would change.
        reason: Kept with the run.

    Raises:
        StoreError: Another run is at work, or one stopped while it was writing.
    """
    _make_way(store)
    return _Work(store, _new_run(store, asked, reason), progress).all(dry_run=dry_run)


def undo(
    store: Store, run_id: str, *, dry_run: bool = False, reason: str = "", progress: Progress = _silent
) -> Report:
    """Bring back the amounts that a run replaced, as a run of its own.

    What a later run has replaced again stays.

    Raises:
        ConfigError: There is no such run, or it changed nothing.
        StoreError: Another run is at work, or a dry run is asked of one that has others to change.
    """
    undone = find_run(store, run_id)
    if undone.state not in ("done", "applying", "stopped"):
        raise ConfigError(
            f"repricing {run_id} is {undone.state} and has changed nothing that could be undone"
        )
    _make_way(store, undone.run_id)
    if dry_run and undone.state in HALF_WRITTEN:
        raise StoreError(
            f"repricing {run_id} stopped while it was writing; a dry run would take the place of its plan; "
            f"finish it with otel-cost reprice --resume {run_id}, or undo it without --dry-run"
        )
    asked = Asked(since=undone.since, until=undone.until, model=undone.model, provider=undone.provider)
    run = replace(_new_run(store, asked, reason), undoes_run_id=run_id, price_version=undone.price_version)
    report = _Work(store, run, progress).all(dry_run=dry_run)
    if not dry_run:
        _note(store, replace(undone, state="undone"))
    return report


def resume(store: Store, run_id: str, *, progress: Progress = _silent) -> Report:
    """Go on with a run that was stopped. Nothing is done twice.

    Raises:
        ConfigError: There is no such run, or it is finished.
        StoreError: Prices have changed since it was planned, or another run took the place of its plan.
    """
    run = find_run(store, run_id)
    if run.state not in _UNFINISHED:
        raise ConfigError(f"repricing {run_id} is {run.state}; there is nothing to go on with")
    _, version = _clock(store)
    if run.state == "planning" and not run.undoes_run_id and version != run.price_version:
        raise StoreError(
            f"repricing {run_id} was planned at prices {run.price_version}, the store has {version} now; "
            "nothing was changed, begin a new run"
        )
    _check_plan(store, run)
    report = _Work(store, replace(run, worker=_token()), progress).all(dry_run=False)
    if run.undoes_run_id:
        _note(store, replace(find_run(store, run.undoes_run_id), state="undone"))
    return report


def _check_plan(store: Store, run: Run) -> None:
    """Refuse to go on without the plan: each run that begins makes its own in place of the last one."""
    latest = runs(store)[0]
    if latest.run_id == run.run_id:
        return
    way_out = f"--resume {latest.run_id}" if latest.state in HALF_WRITTEN else f"--undo {run.run_id}"
    raise StoreError(
        f"repricing {latest.run_id} took the place of the plan of {run.run_id}; "
        f"bring the old amounts back with otel-cost reprice {way_out}"
    )


def find_run(store: Store, run_id: str) -> Run:
    """Return a run by its id.

    Raises:
        ConfigError: There is none.
    """
    found = runs(store, run_id) if run_id else []
    if not found:
        known = ", ".join(run.run_id for run in runs(store)[:5]) or "none"
        raise ConfigError(f"there is no repricing {run_id!r}; the latest are: {known}")
    return found[0]


def runs(store: Store, run_id: str = "") -> list[Run]:
    """Return the runs of a store, the latest first."""
    return [_run_of(row) for row in store.ask("repricing_runs", run_id=run_id).dicts()]


def _run_of(row: dict[str, Any]) -> Run:
    said: dict[str, Any] = {name: value for name, value in row.items() if name != "is_live"}
    for name in ("began_at", "noted_at", "since", "until"):
        said[name] = _utc(said[name])
    return Run(**said)


def _make_way(store: Store, undoes_run_id: str = "") -> None:
    """Stop where another run would be disturbed; one that was killed while it planned has changed nothing."""
    for row in store.ask("repricing_runs", run_id="").dicts():
        run_id, state = row["run_id"], row["state"]
        if state not in _UNFINISHED:
            continue
        if row["is_live"] and state != "stopped":
            raise StoreError(
                f"repricing {run_id} by {row['actor']} is at work; wait for it, or if it was killed, "
                f"half a minute, or otel-cost reprice --resume {run_id}"
            )
        if state != "planning" and run_id != undoes_run_id:
            raise StoreError(
                f"repricing {run_id} stopped while it was writing; finish it with otel-cost reprice --resume "
                f"{run_id}, or bring the old amounts back with --undo {run_id}"
            )
        if state == "planning":
            _note(store, replace(_run_of(row), state="abandoned"))


def _new_run(store: Store, asked: Asked, reason: str) -> Run:
    now_us, version = _clock(store)
    began = EPOCH + timedelta(microseconds=now_us)
    return Run(
        run_id=f"{began:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}",
        worker=_token(),
        began_at=began,
        actor=actor(),
        reason=reason,
        price_version=version,
        **asdict(asked),
    )


def _token() -> str:
    return secrets.token_hex(8)


def _clock(store: Store) -> tuple[int, str]:
    """Return the store's time in microseconds, and the version of its prices."""
    ((now_us, version),) = store.ask("reprice_clock").rows
    return int(now_us), str(version)


def _note(store: Store, run: Run) -> None:
    run.noted_at = EPOCH + timedelta(microseconds=_clock(store)[0])
    store.insert_row("repricing_runs", asdict(run))


def _text(moment: datetime) -> str:
    """Return a moment as a parameter that keeps its microseconds."""
    return f"{moment:%Y-%m-%d %H:%M:%S.%f}"


def _utc(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)


class _TakenOverError(StoreError):
    """Somebody resumed the run that this process is at."""


class _Work:
    """One run at work."""

    def __init__(self, store: Store, run: Run, progress: Progress) -> None:
        self._store, self._run, self._progress = store, run, progress
        self._totals: dict[tuple[str, str], ModelTotals] = {}
        self._margin_s = VISIBLE_AFTER_S if isinstance(store.place, Server) else 0.0
        self._last_version = 0

    def all(self, *, dry_run: bool) -> Report:
        """Do every step that is not done yet; note it where one fails."""
        try:
            return self._steps(dry_run)
        except _TakenOverError:
            raise
        except BaseException:
            with suppress(StoreError):  # it may be the store that is gone
                self._end("abandoned" if self._run.state == "planning" else "stopped")
            raise

    def _steps(self, dry_run: bool) -> Report:
        _note(self._store, self._run)  # first: the plan of an earlier run is gone from now on
        if self._run.step == STEPS[0] and not self._run.after_trace_id:
            self._store.run("reprice_prepare", on_each_shard=True)
        self._each("stage", self._stage)
        self._each("account", self._account)
        self._each("total", self._total)
        if dry_run:
            self._end("dry_run")
            return Report(self._run, self._models())
        self._each("apply", self._apply)
        self._settle()
        self._end("done")
        return Report(self._run, self._models() or self._applied())

    def _each(self, step: str, work: Callable[[dict[str, Any], int], None]) -> None:
        """Do one step for every part, but for those that a stopped run had finished."""
        if STEPS.index(self._run.step) > STEPS.index(step):
            return
        if self._run.step != step or step == "total":
            self._reached(step, FIRST_DAY, "")
        days = self._store.ask(
            "reprice_days", since=self._scope()["since"], until=self._scope()["until"]
        ).rows
        done, total = 0, sum(charges for _, charges in days)
        for day, charges in days:
            if day >= self._run.day:
                for part, size in self._slices(day):
                    work(part, size)
                    self._reached(step, day, part["upto"] or "~")
                    self._progress(step, min(done + size, total), total)
            done += charges
            self._progress(step, done, total)

    def _slices(self, day: date) -> Iterator[tuple[dict[str, Any], int]]:
        """Yield parts of a day: the charges of the traces after one and up to another."""
        after = self._run.after_trace_id if day == self._run.day else ""
        size = CHARGES_PER_SLICE
        done = 0
        while size == CHARGES_PER_SLICE and after != "~":
            ((upto, size),) = self._store.ask("reprice_slice", day=day, after=after, charges=size).rows
            done += size
            yield {"day": day, "after": after, "upto": upto if size == CHARGES_PER_SLICE else ""}, done
            after = upto

    def _reached(self, step: str, day: date, after: str) -> None:
        self._check_mine()
        self._run.step, self._run.day, self._run.after_trace_id = step, day, after
        if step == "apply":
            self._run.state = "applying"
        _note(self._store, self._run)

    def _check_mine(self) -> None:
        if find_run(self._store, self._run.run_id).worker != self._run.worker:
            raise _TakenOverError(
                f"another process goes on with repricing {self._run.run_id}; this one stops"
            )

    def _scope(self) -> dict[str, Any]:
        run = self._run
        period = {"since": _text(run.since), "until": _text(run.until)}
        return period | {"model": run.model, "provider": run.provider, "unpriced_only": run.unpriced_only}

    def _stage(self, part: dict[str, Any], _: int) -> None:
        if self._run.undoes_run_id:
            self._execute("reprice_undo", **part, undoes_run_id=self._run.undoes_run_id)
        else:
            self._execute("reprice_stage", on_each_shard=True, **part, **self._scope())

    def _account(self, part: dict[str, Any], _: int) -> None:
        traces = (str(row[0]) for row in self._store.ask("reprice_traces", **part).rows)
        for trace_part in self._store.to_account(traces):
            self._execute("reprice_complete", **trace_part)
            self._store.run("reprice_account", **trace_part)

    def _total(self, part: dict[str, Any], _: int) -> None:
        for row in self._store.ask("reprice_totals", **part, **self._scope()).rows:
            key = (str(row[0]), str(row[1]))
            before = self._totals.get(key) or ModelTotals(*key, 0, 0, 0, 0, Decimal(0), Decimal(0))
            more = dict(zip(_AMOUNTS, row[2:], strict=True))
            self._totals[key] = replace(before, **{name: getattr(before, name) + more[name] for name in more})
        for name in _AMOUNTS:
            zero = Decimal(0) if name.endswith("_usd") else 0
            setattr(self._run, name, sum((getattr(each, name) for each in self._totals.values()), zero))

    def _apply(self, part: dict[str, Any], _: int) -> None:
        named = {**part, "run_id": self._run.run_id}
        self._execute("reprice_audit", **named)
        while True:
            version = _clock(self._store)[0] + int(self._margin_s * 1e6)
            self._execute("reprice_apply", **named, version=version)
            if not self._margin_s or _clock(self._store)[0] < version:
                break
            self._margin_s *= 2  # a pass may have read old amounts after that time: write them anew
        self._last_version = version

    def _settle(self) -> None:
        """Decide again what counts where spans came meanwhile: what was prepared did not know them."""
        self._reached("settle", FIRST_DAY, "")
        while _clock(self._store)[0] <= self._last_version:
            time.sleep(0.1)
        named = {"run_id": self._run.run_id, "began": _text(self._run.began_at)}
        self._store.account(str(row[0]) for row in self._store.ask("reprice_unsettled", **named).rows)

    def _end(self, state: str) -> None:
        self._run.state = state
        _note(self._store, self._run)

    def _execute(self, name: str, **params: Any) -> None:
        self._store.run(name, settings=_SETTINGS, **params)

    def _applied(self) -> list[ModelTotals]:
        """Return what was changed, for a run that went on after its plan was made."""
        found = self._store.ask("reprice_result", run_id=self._run.run_id).rows
        return [ModelTotals(*row) for row in found]

    def _models(self) -> list[ModelTotals]:
        """Return what changes per model, the largest change first."""
        return sorted(self._totals.values(), key=lambda each: (-abs(each.difference_usd), each.model))
