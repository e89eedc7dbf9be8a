"""Holds: what is reserved is never spent twice, and every hold ends."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
)

from otel_cost.containment import error_counts, forget_errors
from otel_cost.errors import ConfigError
from otel_cost.ledger import EXPIRED, Balance, Busy, Hold, Refusal
from otel_cost.ledger.memory import MemoryLedger
from otel_cost.ledger.owners import own_directory
from otel_cost.ledger.shared import SharedLedger, sweep
from otel_cost.ledger.sqlite import SqliteLedger
from otel_cost.money import PICO

DIME = PICO // 10
RUN = "execution:a"


class Clock:
    """Time that passes when told, and may be told to go back."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def held(answer: Hold | Refusal) -> Hold:
    """Return a hold that must have been granted."""
    assert isinstance(answer, Hold), answer
    return answer


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")


def in_child(work: Callable[[], bool]) -> bool:
    """Return what a forked child says; it ends at once, without leaving anything."""
    child = os.fork()
    if child == 0:
        said = False
        try:
            said = work()
        finally:
            os._exit(0 if said else 1)
    return os.waitpid(child, 0)[1] == 0


LedgerOf = Callable[..., Any]
"""Gives a ledger with one limited execution, and the options it is made with."""


def in_memory(directory: Path, limit_picousd: int | None, **options: Any) -> MemoryLedger:
    """Return a ledger of one process."""
    made = MemoryLedger(**options)
    made.open(RUN, limit_picousd)
    return made


def in_file(directory: Path, limit_picousd: int | None, **options: Any) -> SqliteLedger:
    """Return a ledger that processes can share."""
    made = SqliteLedger(directory / "a.ledger", **options)
    made.open(RUN, limit_picousd)
    return made


def moved(directory: Path, limit_picousd: int | None, **options: Any) -> SharedLedger:
    """Return a ledger whose execution was shared after it began in memory."""
    made = SharedLedger(MemoryLedger(**options))
    made.open(RUN, limit_picousd)
    file = SqliteLedger(directory / "a.ledger", **options)
    made.memory.move(RUN, lambda: file)
    made._files[file.path] = file
    return made


@pytest.fixture(params=[in_memory, in_file, moved])
def ledger_of(request: pytest.FixtureRequest, tmp_path: Path) -> LedgerOf:
    """Each kind of ledger in turn."""
    tmp_path.chmod(0o700)
    return lambda limit_picousd, **options: request.param(tmp_path, limit_picousd, **options)


def test_a_hold_becomes_what_was_spent(ledger_of: LedgerOf) -> None:
    """Reserved and settled are shown apart; what was held too much is free again."""
    ledger = ledger_of(10 * DIME)
    hold = held(ledger.reserve(RUN, 4 * DIME))
    assert ledger.balance(RUN) == Balance(10 * DIME, 0, 4 * DIME)
    assert ledger.settle(hold, DIME)
    assert ledger.balance(RUN) == Balance(10 * DIME, DIME, 0)
    assert ledger.balance(RUN).remaining_picousd == 9 * DIME


def test_settling_twice_counts_once(ledger_of: LedgerOf) -> None:
    """A second answer for the same call, or a release after it, changes nothing."""
    ledger = ledger_of(10 * DIME)
    hold = held(ledger.reserve(RUN, 4 * DIME))
    assert ledger.settle(hold, 3 * DIME)
    assert not ledger.settle(hold, 3 * DIME)
    assert not ledger.release(hold)
    assert ledger.balance(RUN) == Balance(10 * DIME, 3 * DIME, 0)


def test_the_last_dime_fits_and_the_next_does_not(ledger_of: LedgerOf) -> None:
    """A limit may be used up to the last pico-dollar."""
    ledger = ledger_of(DIME)
    held(ledger.reserve(RUN, DIME - 1))
    held(ledger.reserve(RUN, 1))
    refused = ledger.reserve(RUN, 1)
    assert refused == Refusal(RUN, Balance(DIME, 0, DIME), 1)
    held(ledger.reserve(RUN, 0))


def test_an_inner_scope_has_only_what_is_left_around_it(ledger_of: LedgerOf) -> None:
    """A sub-agent with a budget of its own cannot spend more than its parent has."""
    ledger = ledger_of(10 * DIME)
    ledger.open("execution:a/1", 8 * DIME, within=RUN)
    held(ledger.reserve(RUN, 5 * DIME))
    held(ledger.reserve("execution:a/1", 5 * DIME))
    refused = ledger.reserve("execution:a/1", 1)
    assert isinstance(refused, Refusal)
    assert refused.scope == RUN
    assert ledger.balance("execution:a/1") == Balance(8 * DIME, 0, 5 * DIME)


def test_an_inner_limit_holds_while_there_is_plenty_around_it(ledger_of: LedgerOf) -> None:
    """The nearest limit that is reached refuses, and names itself."""
    ledger = ledger_of(None)
    ledger.open("execution:a/1", DIME, within=RUN)
    held(ledger.reserve("execution:a/1", DIME))
    refused = ledger.reserve("execution:a/1", DIME)
    assert isinstance(refused, Refusal)
    assert refused.scope == "execution:a/1"
    assert ledger.balance(RUN).reserved_picousd == DIME


def test_a_hold_nobody_settles_counts_as_spent(ledger_of: LedgerOf) -> None:
    """After its time a hold is spent, not free: what is unknown is not zero. A late answer corrects it."""
    clock = Clock()
    ledger = ledger_of(10 * DIME, clock=clock, hold_ttl_s=60)
    lost, late = held(ledger.reserve(RUN, 4 * DIME)), held(ledger.reserve(RUN, 2 * DIME))
    clock.now += 61
    assert ledger.balance(RUN) == Balance(10 * DIME, 6 * DIME, 0)
    assert ledger.open_holds == 0
    if isinstance(ledger, MemoryLedger):
        assert (ledger.expired_holds, lost.state) == (2, EXPIRED)
    assert ledger.settle(late, DIME)
    assert ledger.balance(RUN) == Balance(10 * DIME, 5 * DIME, 0)


def test_a_clock_that_goes_back_frees_nothing(ledger_of: LedgerOf) -> None:
    """Holds only expire later."""
    clock = Clock()
    ledger = ledger_of(DIME, clock=clock, hold_ttl_s=60)
    held(ledger.reserve(RUN, DIME))
    clock.now -= 500
    assert isinstance(ledger.reserve(RUN, 1), Refusal)


def test_what_was_spent_without_a_hold_counts(ledger_of: LedgerOf) -> None:
    """It may pass the limit, and then nothing more is granted."""
    ledger = ledger_of(DIME)
    ledger.spend(RUN, 2 * DIME)
    assert ledger.balance(RUN).remaining_picousd == 0
    assert isinstance(ledger.reserve(RUN, 0), Refusal)


def test_a_limit_can_be_raised(ledger_of: LedgerOf) -> None:
    """After an approval the execution goes on with what it had spent; opening it again raises nothing."""
    ledger = ledger_of(DIME)
    ledger.settle(held(ledger.reserve(RUN, DIME)), DIME)
    ledger.open(RUN, 2 * DIME)
    assert isinstance(ledger.reserve(RUN, DIME), Refusal)
    ledger.limit(RUN, 2 * DIME)
    held(ledger.reserve(RUN, DIME))


@pytest.mark.parametrize("amount", [-1, -PICO])
def test_negative_amounts_are_refused(ledger_of: LedgerOf, amount: int) -> None:
    """A mistake elsewhere cannot create money."""
    ledger = ledger_of(DIME)
    hold = held(ledger.reserve(RUN, DIME))
    with pytest.raises(ValueError, match="negative"):
        ledger.reserve(RUN, amount)
    with pytest.raises(ValueError, match="negative"):
        ledger.settle(hold, amount)
    with pytest.raises(ValueError, match="negative"):
        ledger.spend(RUN, amount)
    assert ledger.balance(RUN) == Balance(DIME, 0, DIME)


def test_memory_is_bounded_and_nothing_in_use_is_forgotten() -> None:
    """A million executions pass through; those with a hold or an inner scope stay."""
    ledger = MemoryLedger(max_scopes=100)
    used = held(ledger.reserve("execution:used", DIME))
    ledger.open("execution:outer", DIME)
    ledger.open("execution:inner", None, within="execution:outer")
    inner = held(ledger.reserve("execution:inner", DIME))
    for number in range(20_000):
        ledger.spend(f"execution:{number}", 1)
    assert len(ledger) <= 103
    assert ledger.forgotten_scopes >= 19_900
    assert ledger.balance("execution:used").reserved_picousd == DIME
    assert isinstance(ledger.reserve("execution:inner", 1), Refusal)
    assert ledger.settle(used, DIME)
    assert ledger.settle(inner, DIME)


def test_threads_cannot_spend_the_same_money(ledger_of: LedgerOf) -> None:
    """500 threads ask for a dime of a dollar at once: ten get one."""
    ledger, granted, start = ledger_of(10 * DIME), list[Hold](), threading.Barrier(50)

    def work() -> None:
        start.wait()
        for _ in range(10):
            answer = ledger.reserve(RUN, DIME)
            if isinstance(answer, Hold):
                granted.append(answer)

    threads = [threading.Thread(target=work) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(granted) == 10
    for hold in granted:
        ledger.settle(hold, DIME)
    assert ledger.balance(RUN) == Balance(10 * DIME, 10 * DIME, 0)


def test_tasks_cannot_spend_the_same_money(ledger_of: LedgerOf) -> None:
    """The same with asyncio, with an await between reserving and settling."""
    ledger = ledger_of(10 * DIME)

    async def call() -> bool:
        answer = ledger.reserve(RUN, DIME)
        await asyncio.sleep(0)
        return isinstance(answer, Hold) and ledger.settle(answer, DIME)

    async def run() -> list[bool]:
        return await asyncio.gather(*(call() for _ in range(500)))

    assert sum(asyncio.run(run())) == 10


@needs_fork
def test_a_forked_child_does_not_wait_for_its_parents_calls() -> None:
    """In memory the child starts from what was spent, with a lock that works."""
    ledger = MemoryLedger()
    ledger.open(RUN, 10 * DIME)
    ledger.spend(RUN, DIME)
    mine = held(ledger.reserve(RUN, 9 * DIME))
    assert in_child(
        lambda: (
            isinstance(ledger.reserve(RUN, 9 * DIME), Hold) and ledger.balance(RUN).settled_picousd == DIME
        )
    )
    assert ledger.settle(mine, DIME)


@needs_fork
@pytest.mark.parametrize("make", [in_file, moved])
def test_a_forked_child_spends_what_its_parent_leaves(make: LedgerOf, tmp_path: Path) -> None:
    """Where they share, the child sees the call in flight, cannot settle it, and its own counts at once."""
    tmp_path.chmod(0o700)
    ledger = make(tmp_path, 10 * DIME)
    mine = held(ledger.reserve(RUN, 8 * DIME))

    def spend() -> bool:
        refused = isinstance(ledger.reserve(RUN, 3 * DIME), Refusal)
        return refused and not ledger.settle(mine, 0) and ledger.settle(ledger.reserve(RUN, 2 * DIME), DIME)

    assert in_child(spend)
    assert ledger.balance(RUN) == Balance(10 * DIME, DIME, 8 * DIME)
    assert ledger.settle(mine, DIME)
    assert ledger.balance(RUN) == Balance(10 * DIME, 2 * DIME, 0)


@needs_fork
@pytest.mark.parametrize("make", [in_file, moved])
def test_what_a_dead_process_held_is_spent_at_once(make: LedgerOf, tmp_path: Path) -> None:
    """The provider may bill for the call, so it is not free; nobody waits an hour for it either."""
    tmp_path.chmod(0o700)
    ledger = make(tmp_path, 10 * DIME)
    assert in_child(lambda: isinstance(ledger.reserve(RUN, 8 * DIME), Hold))
    refused = ledger.reserve(RUN, 3 * DIME)
    assert refused == Refusal(RUN, Balance(10 * DIME, 8 * DIME, 0), 3 * DIME)
    assert ledger.balance(RUN) == Balance(10 * DIME, 8 * DIME, 0)
    assert ledger.open_holds == 0


def test_what_is_in_flight_moves_with_its_scope(tmp_path: Path) -> None:
    """The scope, those around and inside of it and their holds go to the file; others stay in memory."""
    tmp_path.chmod(0o700)
    ledger = SharedLedger()
    ledger.open("outer", 10 * DIME)
    ledger.open("inner", 5 * DIME, within="outer")
    ledger.open("other", DIME)
    ledger.spend("inner", DIME)
    hold = held(ledger.reserve("inner", 2 * DIME, owner="POST"))
    file = SqliteLedger(tmp_path / "a.ledger")
    ledger.memory.move("outer", lambda: file)
    ledger._files[file.path] = file
    assert len(ledger.memory) == 1
    assert file.balance("inner") == Balance(5 * DIME, DIME, 2 * DIME)
    assert file.balance("outer") == Balance(10 * DIME, DIME, 2 * DIME)
    ledger.open("innermost", None, within="inner")
    assert isinstance(ledger.reserve("innermost", 3 * DIME), Refusal)
    assert ledger.settle(hold, DIME)
    assert not ledger.settle(hold, DIME)
    assert ledger.balance("outer") == Balance(10 * DIME, 2 * DIME, 0)


def test_a_scope_without_a_limit_stays_in_memory() -> None:
    """There is nothing to share, so nothing is paid for it."""
    ledger = SharedLedger()
    ledger.open(RUN, None)
    assert ledger.share(RUN) is None
    assert ledger.paths == ()


@pytest.fixture
def frozen(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """Another process that writes to `a.ledger` once it is told to, and then goes no further."""
    tmp_path.chmod(0o700)
    SqliteLedger(tmp_path / "a.ledger").close()
    other = sqlite3.connect(tmp_path / "a.ledger", isolation_level=None)
    yield other
    other.close()


def test_nothing_is_held_while_another_process_is_frozen(frozen: sqlite3.Connection, tmp_path: Path) -> None:
    """It is told so at once, for whoever asks to try again; the balance can be read all the time."""
    ledger = in_file(tmp_path, DIME)
    frozen.execute("BEGIN IMMEDIATE")
    with pytest.raises(Busy):
        ledger.reserve(RUN, 1)
    assert ledger.balance(RUN) == Balance(DIME, 0, 0)
    frozen.execute("ROLLBACK")
    held(ledger.reserve(RUN, 1))
    assert ledger.balance(RUN) == Balance(DIME, 0, 1)


def test_what_was_spent_is_not_lost_while_another_process_is_frozen(
    frozen: sqlite3.Connection, tmp_path: Path
) -> None:
    """It is put off until the file is used next, counts once, and was counted as an error."""
    forget_errors()
    ledger, other = in_file(tmp_path, DIME), SqliteLedger(tmp_path / "b.ledger")
    spent, given_back = held(ledger.reserve(RUN, 50)), held(ledger.reserve(RUN, 7))
    frozen.execute("BEGIN IMMEDIATE")
    assert not other.settle(spent, 30)
    assert ledger.settle(spent, 30)
    assert not ledger.settle(spent, 40)
    assert ledger.release(given_back)
    ledger.spend(RUN, 5)
    assert ledger.balance(RUN) == Balance(DIME, 0, 57)
    frozen.execute("ROLLBACK")
    assert ledger.balance(RUN) == Balance(DIME, 35, 0)
    assert ledger.balance(RUN) == Balance(DIME, 35, 0)
    assert sum(error_counts().values()) == 3
    forget_errors()


def test_what_was_put_off_is_written_when_the_file_is_closed(
    frozen: sqlite3.Connection, tmp_path: Path
) -> None:
    """A process that ends in good order leaves its settlements."""
    ledger = in_file(tmp_path, DIME)
    hold = held(ledger.reserve(RUN, 50))
    frozen.execute("BEGIN IMMEDIATE")
    assert ledger.settle(hold, 30)
    frozen.execute("ROLLBACK")
    ledger.close()
    assert SqliteLedger(tmp_path / "a.ledger").balance(RUN) == Balance(DIME, 30, 0)


def test_a_call_that_ends_in_the_middle_of_a_step_counts(tmp_path: Path) -> None:
    """The garbage collector may end one while its thread writes: neither of the two is lost."""
    tmp_path.chmod(0o700)
    clock = Clock()
    ledger = in_file(tmp_path, DIME, clock=clock)
    first = held(ledger.reserve(RUN, 50))
    others = [held(ledger.reserve(RUN, 7))]

    def end_another() -> float:
        if others:
            ledger.settle(others.pop(), 3)
        return clock.now

    ledger._clock = end_another
    assert ledger.settle(first, 30)
    assert not others
    assert ledger.balance(RUN) == Balance(DIME, 33, 0)


def test_a_file_forgets_scopes_that_are_old(tmp_path: Path) -> None:
    """After a day without use, or beyond the most that are kept; never one that is in use."""
    tmp_path.chmod(0o700)
    clock = Clock()
    ledger = SqliteLedger(
        tmp_path / "a.ledger", clock=clock, max_scopes=100, scope_ttl_s=60, hold_ttl_s=1_000
    )
    used = held(ledger.reserve("execution:used", DIME))
    for number in range(1_000):
        ledger.spend(f"execution:{number}", 1)
    assert len(ledger) <= 100 + 256
    assert ledger.balance("execution:999").settled_picousd == 1
    clock.now += 61
    again = SqliteLedger(tmp_path / "a.ledger", clock=clock, scope_ttl_s=60)
    assert len(again) == 1
    assert again.balance("execution:used").reserved_picousd == DIME
    assert ledger.settle(used, DIME)


def test_amounts_beyond_64_bits_are_exact(tmp_path: Path) -> None:
    """An organization may spend more than the 9.2 million USD that 63 bits of pico-dollars hold."""
    tmp_path.chmod(0o700)
    ledger = SqliteLedger(tmp_path / "a.ledger")
    ledger.open("organization:a", 10**9 * PICO)
    ledger.settle(held(ledger.reserve("organization:a", 10**8 * PICO)), 10**8 * PICO - 1)
    assert ledger.balance("organization:a") == Balance(10**9 * PICO, 10**8 * PICO - 1, 0)


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o707])
def test_a_ledger_others_could_reach_is_refused(mode: int, tmp_path: Path) -> None:
    """Whoever can write there could give out money, so it says how to close the directory."""
    tmp_path.chmod(mode)
    with pytest.raises(ConfigError, match="chmod 700"):
        SqliteLedger(tmp_path / "a.ledger")


def test_a_link_is_no_ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither directory nor file may point elsewhere: in a shared /tmp anybody may have put it there."""
    tmp_path.chmod(0o700)
    (tmp_path / "target").touch()
    (tmp_path / "a.ledger").symlink_to(tmp_path / "target")
    with pytest.raises(ConfigError, match="cannot be opened"):
        SqliteLedger(tmp_path / "a.ledger")
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (tmp_path / "otel-cost").symlink_to(tmp_path / "elsewhere")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with pytest.raises(ConfigError, match="not a directory"):
        own_directory()


def test_ledgers_left_behind_are_swept_away(tmp_path: Path) -> None:
    """After an hour, when no process lives that used them; a younger one, or one in use, stays."""
    tmp_path.chmod(0o700)
    names = ["1-left.ledger", "2-used.ledger", "3-young.ledger"]
    for name in names:
        ledger = SqliteLedger(tmp_path / name)
        process = ledger._process if "used" in name else "4194305-1-" + ledger._process.split("-")[2]
        with ledger._transaction() as db:
            db.execute("UPDATE processes SET process = ?", (process,))
        ledger.close()
        if "young" not in name:
            os.utime(tmp_path / name, (0, time.time() - 7_200))
    child = os.fork()
    if child == 0:  # as the process that comes next
        sweep(tmp_path)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert sorted(path.name for path in tmp_path.glob("*.ledger")) == names[1:]


class Ledgers(RuleBasedStateMachine):
    """Any order of reserve, settle, release, expiry and crash, over two nested scopes."""

    holds: Bundle[Hold] = Bundle("holds")

    def make(self, **options: Any) -> Any:
        """Return the ledger that is tried."""
        return MemoryLedger(**options)

    @initialize(outer=st.integers(0, 50), inner=st.integers(0, 50))
    def begin(self, outer: int, inner: int) -> None:
        """Limit an execution and a part of it."""
        self.clock = Clock()
        self.ledger: Any = self.make(clock=self.clock, hold_ttl_s=60)
        self.limits = {"outer": outer, "inner": inner}
        self.ledger.open("outer", outer)
        self.ledger.open("inner", inner, within="outer")

    @rule(target=holds, scope=st.sampled_from(["outer", "inner"]), amount=st.integers(0, 30))
    def reserve(self, scope: str, amount: int) -> object:
        """Ask for money; a refusal must be right."""
        before = {name: self.ledger.balance(name) for name in self.limits}
        answer = self.ledger.reserve(scope, amount)
        if isinstance(answer, Hold):
            return answer
        balance = before[answer.scope]
        assert balance.settled_picousd + balance.reserved_picousd + amount > self.limits[answer.scope]
        return multiple()

    @rule(hold=holds, part=st.floats(0, 1))
    def settle(self, hold: Hold, part: float) -> None:
        """Settle at any time, often more than once, up to what was held."""
        self.ledger.settle(hold, int(hold.amount_picousd * part))

    @rule(hold=holds)
    def release(self, hold: Hold) -> None:
        """Give back at any time."""
        self.ledger.release(hold)

    @rule(seconds=st.floats(-30, 90))
    def wait(self, seconds: float) -> None:
        """Let time pass, or jump back; holds whose owners crashed expire."""
        self.clock.now += seconds

    @invariant()
    def limits_hold(self) -> None:
        """Settled plus reserved never passes a limit, and nothing is ever negative."""
        for scope, limit in self.limits.items():
            balance = self.ledger.balance(scope)
            assert 0 <= balance.settled_picousd + balance.reserved_picousd <= limit
            assert balance.settled_picousd >= 0
            assert balance.reserved_picousd >= 0

    def teardown(self) -> None:
        """In the end no hold is left, and nothing is reserved."""
        if hasattr(self, "ledger"):
            self.clock.now += 10_000
            for scope in self.limits:
                assert self.ledger.balance(scope).reserved_picousd == 0
            assert self.ledger.open_holds == 0


class SharedLedgers(Ledgers):
    """The same when the scopes move to a file at some point, and another process spends from them too."""

    def make(self, **options: Any) -> Any:
        """Return a ledger in memory, and open its file as a second process would."""
        self.directory = tempfile.mkdtemp()
        file = SqliteLedger(Path(self.directory) / "a.ledger", **options)
        self.file, self.other = file, SqliteLedger(file.path, **options)
        self.other._process = self.name = "4194305-1-" + self.other._process.split("-")[2]
        self.is_shared = False
        return SharedLedger(MemoryLedger(**options))

    @rule()
    def share(self) -> None:
        """A child process starts, while calls are in flight."""
        if not self.is_shared:
            self.is_shared = True
            self.ledger.memory.move("inner", lambda: self.file)
            self.ledger._files[self.file.path] = self.file

    @precondition(lambda self: self.is_shared)
    @rule(scope=st.sampled_from(["outer", "inner"]), amount=st.integers(0, 30), part=st.floats(0, 1))
    def other_calls(self, scope: str, amount: int, part: float) -> None:
        """Another process makes a call of its own."""
        answer = self.other.reserve(scope, amount)
        if isinstance(answer, Hold):
            self.other.settle(answer, int(amount * part))

    @precondition(lambda self: self.is_shared)
    @rule(scope=st.sampled_from(["outer", "inner"]), amount=st.integers(1, 30))
    def other_dies(self, scope: str, amount: int) -> None:
        """Another process dies in the middle of a call, which counts as spent: its number is no process's."""
        before, answer = self.ledger.balance(scope), self.other.reserve(scope, amount)
        if isinstance(answer, Hold):
            self.clock.now += 1
            after = self.ledger.balance(scope)
            assert sum(after[1:]) == sum(before[1:]) + amount
            assert after.settled_picousd >= before.settled_picousd + amount

    def teardown(self) -> None:
        """In the end no hold is left."""
        try:
            super().teardown()
        finally:
            if hasattr(self, "directory"):
                self.file.close()
                self.other.close()
                shutil.rmtree(self.directory)


TestLedgers = Ledgers.TestCase
TestLedgers.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestSharedLedgers = SharedLedgers.TestCase
TestSharedLedgers.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
