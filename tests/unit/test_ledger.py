"""Holds: what is reserved is never spent twice, and every hold ends."""

from __future__ import annotations

import asyncio
import os
import threading

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, rule

from otel_cost.ledger import EXPIRED, Balance, Hold, Refusal
from otel_cost.ledger.memory import MemoryLedger
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


def ledger_of(limit_picousd: int | None, **options: object) -> MemoryLedger:
    """Return a ledger with one limited execution."""
    made = MemoryLedger(**options)  # type: ignore[arg-type]
    made.open(RUN, limit_picousd)
    return made


def test_a_hold_becomes_what_was_spent() -> None:
    """Reserved and settled are shown apart; what was held too much is free again."""
    ledger = ledger_of(10 * DIME)
    hold = held(ledger.reserve(RUN, 4 * DIME))
    assert ledger.balance(RUN) == Balance(10 * DIME, 0, 4 * DIME)
    assert ledger.settle(hold, DIME)
    assert ledger.balance(RUN) == Balance(10 * DIME, DIME, 0)
    assert ledger.balance(RUN).remaining_picousd == 9 * DIME


def test_settling_twice_counts_once() -> None:
    """A second answer for the same call, or a release after it, changes nothing."""
    ledger = ledger_of(10 * DIME)
    hold = held(ledger.reserve(RUN, 4 * DIME))
    assert ledger.settle(hold, 3 * DIME)
    assert not ledger.settle(hold, 3 * DIME)
    assert not ledger.release(hold)
    assert ledger.balance(RUN) == Balance(10 * DIME, 3 * DIME, 0)


def test_the_last_dime_fits_and_the_next_does_not() -> None:
    """A limit may be used up to the last pico-dollar."""
    ledger = ledger_of(DIME)
    held(ledger.reserve(RUN, DIME - 1))
    held(ledger.reserve(RUN, 1))
    refused = ledger.reserve(RUN, 1)
    assert refused == Refusal(RUN, Balance(DIME, 0, DIME), 1)
    held(ledger.reserve(RUN, 0))


def test_an_inner_scope_has_only_what_is_left_around_it() -> None:
    """A sub-agent with a budget of its own cannot spend more than its parent has."""
    ledger = ledger_of(10 * DIME)
    ledger.open("execution:a/1", 8 * DIME, within=RUN)
    held(ledger.reserve(RUN, 5 * DIME))
    held(ledger.reserve("execution:a/1", 5 * DIME))
    refused = ledger.reserve("execution:a/1", 1)
    assert isinstance(refused, Refusal)
    assert refused.scope == RUN
    assert ledger.balance("execution:a/1") == Balance(8 * DIME, 0, 5 * DIME)


def test_an_inner_limit_holds_while_there_is_plenty_around_it() -> None:
    """The nearest limit that is reached refuses, and names itself."""
    ledger = ledger_of(None)
    ledger.open("execution:a/1", DIME, within=RUN)
    held(ledger.reserve("execution:a/1", DIME))
    refused = ledger.reserve("execution:a/1", DIME)
    assert isinstance(refused, Refusal)
    assert refused.scope == "execution:a/1"
    assert ledger.balance(RUN).reserved_picousd == DIME


def test_a_hold_nobody_settles_counts_as_spent() -> None:
    """After its time a hold is spent, not free: what is unknown is not zero. A late answer corrects it."""
    clock = Clock()
    ledger = ledger_of(10 * DIME, clock=clock, hold_ttl_s=60)
    lost, late = held(ledger.reserve(RUN, 4 * DIME)), held(ledger.reserve(RUN, 2 * DIME))
    clock.now += 61
    assert ledger.balance(RUN) == Balance(10 * DIME, 6 * DIME, 0)
    assert (ledger.expired_holds, ledger.open_holds, lost.state) == (2, 0, EXPIRED)
    assert ledger.settle(late, DIME)
    assert ledger.balance(RUN) == Balance(10 * DIME, 5 * DIME, 0)


def test_a_clock_that_goes_back_frees_nothing() -> None:
    """Holds only expire later."""
    clock = Clock()
    ledger = ledger_of(DIME, clock=clock, hold_ttl_s=60)
    held(ledger.reserve(RUN, DIME))
    clock.now -= 500
    assert isinstance(ledger.reserve(RUN, 1), Refusal)


def test_what_was_spent_without_a_hold_counts() -> None:
    """It may pass the limit, and then nothing more is granted."""
    ledger = ledger_of(DIME)
    ledger.spend(RUN, 2 * DIME)
    assert ledger.balance(RUN).remaining_picousd == 0
    assert isinstance(ledger.reserve(RUN, 0), Refusal)


def test_a_limit_can_be_raised() -> None:
    """After an approval the execution goes on with what it had spent; opening it again raises nothing."""
    ledger = ledger_of(DIME)
    ledger.settle(held(ledger.reserve(RUN, DIME)), DIME)
    ledger.open(RUN, 2 * DIME)
    assert isinstance(ledger.reserve(RUN, DIME), Refusal)
    ledger.limit(RUN, 2 * DIME)
    held(ledger.reserve(RUN, DIME))


@pytest.mark.parametrize("amount", [-1, -PICO])
def test_negative_amounts_are_refused(amount: int) -> None:
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


def test_threads_cannot_spend_the_same_money() -> None:
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


def test_tasks_cannot_spend_the_same_money() -> None:
    """The same with asyncio, with an await between reserving and settling."""
    ledger = ledger_of(10 * DIME)

    async def call() -> bool:
        answer = ledger.reserve(RUN, DIME)
        await asyncio.sleep(0)
        return isinstance(answer, Hold) and ledger.settle(answer, DIME)

    async def run() -> list[bool]:
        return await asyncio.gather(*(call() for _ in range(500)))

    assert sum(asyncio.run(run())) == 10


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_child_does_not_wait_for_its_parents_calls() -> None:
    """The parent settles its own holds; the child starts from what was spent, with a lock that works."""
    ledger = ledger_of(10 * DIME)
    ledger.spend(RUN, DIME)
    mine = held(ledger.reserve(RUN, 9 * DIME))
    child = os.fork()
    if child == 0:
        fits = isinstance(ledger.reserve(RUN, 9 * DIME), Hold)
        os._exit(0 if fits and ledger.balance(RUN).settled_picousd == DIME else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert ledger.settle(mine, DIME)


class Ledgers(RuleBasedStateMachine):
    """Any order of reserve, settle, release, expiry and crash, over two nested scopes."""

    holds: Bundle[Hold] = Bundle("holds")

    @initialize(outer=st.integers(0, 50), inner=st.integers(0, 50))
    def begin(self, outer: int, inner: int) -> None:
        """Limit an execution and a part of it."""
        self.clock = Clock()
        self.ledger = MemoryLedger(clock=self.clock, hold_ttl_s=60)
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


TestLedgers = Ledgers.TestCase
TestLedgers.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
