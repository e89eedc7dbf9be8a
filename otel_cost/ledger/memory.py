"""A ledger in this process, exact under threads and asyncio. It costs a microsecond a call."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

from otel_cost.ledger import CLOSED, EXPIRED, OPEN, Balance, Hold, Ledger, Refusal, Tallying

HOLD_TTL_S = 3_600.0
"""When a hold counts as spent: longer than any client waits, the SDKs give up after 10 minutes."""
MAX_SCOPES = 65_536
"""Scopes kept, some 300 bytes each. The least recently used one without a hold goes first."""
LOOKED_AT = 64
"""Scopes looked at for one to forget; where all of these are in use, later calls look at others."""


@dataclass(slots=True, eq=False)
class _Account:
    """A scope: its own figures, and the scopes around it, which every amount concerns too."""

    scope: str
    limit_picousd: int | None
    around: _Account | None = None
    settled_picousd: int = 0
    reserved_picousd: int = 0
    users: int = 0
    """Open holds and inner scopes: as long as there are any, the scope is not forgotten."""

    def chain(self) -> tuple[_Account, ...]:
        return (self,) if self.around is None else (self, *self.around.chain())

    @property
    def within(self) -> str:
        return "" if self.around is None else self.around.scope

    def has_room(self, amount_picousd: int) -> bool:
        limit = self.limit_picousd
        return limit is None or self.settled_picousd + self.reserved_picousd + amount_picousd <= limit

    def balance(self) -> Balance:
        return Balance(self.limit_picousd, self.settled_picousd, self.reserved_picousd)


class Taker(Ledger, Tallying, Protocol):
    """A ledger that can take over scopes of this one."""

    def put(self, scopes: Sequence[tuple[str, str, Balance]], holds: Sequence[Hold]) -> list[Hold]:
        """Take scopes, outer ones first, with what each is within, and open holds. Returns its own holds."""
        ...


@dataclass(slots=True, eq=False)
class _Held(Hold):
    accounts: tuple[_Account, ...] = ()
    moved_to: tuple[Taker, Hold] | None = None


class Moved(Exception):  # noqa: N818 (an answer, not an error)
    """What was asked for is kept in another ledger by now.

    Attributes:
        ledger: That one.
        hold: The hold there, where one was asked for.
    """

    def __init__(self, ledger: Taker, hold: Hold | None = None) -> None:
        self.ledger, self.hold = ledger, hold


class MemoryLedger:
    """Keeps scopes and holds in memory.

    Args:
        hold_ttl_s: Seconds until a hold that nobody settled counts as spent.
        max_scopes: Scopes kept at most.
        clock: Seconds that never go back.

    Attributes:
        expired_holds: Holds that nobody settled in time; each is a bug or a thread that was killed.
        forgotten_scopes: Scopes dropped to stay within `max_scopes`; what they had spent is forgotten.
    """

    def __init__(
        self,
        *,
        hold_ttl_s: float = HOLD_TTL_S,
        max_scopes: int = MAX_SCOPES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.expired_holds = 0
        self.forgotten_scopes = 0
        self._ttl_s, self._max_scopes, self._clock = hold_ttl_s, max_scopes, clock
        self._accounts: OrderedDict[str, _Account] = OrderedDict()
        self._open: OrderedDict[int, _Held] = OrderedDict()
        self._moved: OrderedDict[str, Taker] = OrderedDict()
        self._lock = threading.RLock()
        _ledgers.add(self)

    def open(self, scope: str, limit_picousd: int | None, within: str = "") -> None:
        """Begin a scope, inside another one or none. One that is open stays as it is."""
        with self._lock:
            if within in self._moved and scope not in self._accounts:
                self._note_moved(scope, self._moved[within])
            if scope not in self._accounts:
                self._check_is_here(scope)
                self._add(_Account(scope, limit_picousd, self._account(within) if within else None))

    def limit(self, scope: str, limit_picousd: int | None) -> None:
        """Change the limit of a scope, as after an approval; what it has spent stays."""
        with self._lock:
            self._account(scope).limit_picousd = limit_picousd

    def reserve(self, scope: str, amount_picousd: int, *, owner: str = "") -> Hold | Refusal:
        """Hold an amount in a scope and all scopes around it, or say which of them has too little left.

        Raises:
            ValueError: The amount is negative.
        """
        check_amount(amount_picousd)
        now = self._clock()
        with self._lock:
            self._expire(now)
            accounts = self._account(scope).chain()
            for account in accounts:
                if not account.has_room(amount_picousd):
                    return Refusal(account.scope, account.balance(), amount_picousd)
            for account in accounts:
                account.reserved_picousd += amount_picousd
                account.users += 1
            hold = _Held(scope, amount_picousd, owner, now + self._ttl_s, accounts=accounts)
            self._open[id(hold)] = hold
            return hold

    def settle(self, hold: Hold, actual_picousd: int) -> bool:
        """Replace a hold by what was spent. Returns False, and changes nothing, when it was closed before.

        Raises:
            ValueError: The amount is negative.
        """
        check_amount(actual_picousd)
        with self._lock:
            if not isinstance(hold, _Held):
                return False
            if hold.moved_to is not None:
                raise Moved(*hold.moved_to)
            return self._close(hold, actual_picousd)

    def release(self, hold: Hold) -> bool:
        """Give a hold back. Returns False, and changes nothing, when it was closed before."""
        return self.settle(hold, 0)

    def spend(self, scope: str, amount_picousd: int) -> None:
        """Add what was spent without a hold. It counts even where it passes the limit."""
        check_amount(amount_picousd)
        with self._lock:
            for account in self._account(scope).chain():
                account.settled_picousd += amount_picousd

    def balance(self, scope: str) -> Balance:
        """Return how a scope stands; an unknown one has spent nothing."""
        now = self._clock()
        with self._lock:
            self._expire(now)
            account = self._accounts.get(scope)
            if account is None:
                self._check_is_here(scope)
            return account.balance() if account else Balance(None, 0, 0)

    def shared_in(self, scope: str) -> Taker | None:
        """Return the ledger that a scope was handed over to."""
        return self._moved.get(scope)

    @property
    def open_holds(self) -> int:
        """Holds that are neither closed nor expired."""
        return len(self._open)

    def __len__(self) -> int:
        return len(self._accounts)

    def move(self, scope: str, to: Callable[[], Taker], *, even_unlimited: bool = False) -> Taker | None:
        """Hand a scope over to another ledger, with what is around and inside of it and their open holds.

        From now on this ledger answers `Moved` for them. Nothing changes when the other ledger fails.

        Args:
            to: Gives the other ledger, once it is needed.
            even_unlimited: Hand over what nothing limits, too.

        Returns:
            The ledger that has it; None where nothing limits the scope, and it stays.
        """
        with self._lock:
            if scope in self._moved:
                return self._moved[scope]
            chain = self._account(scope).chain()
            if not even_unlimited and all(account.limit_picousd is None for account in chain):
                return None
            accounts = [each for each in self._accounts.values() if each.chain()[-1] is chain[-1]]
            accounts.sort(key=lambda each: len(each.chain()))
            holds = [hold for hold in self._open.values() if hold.accounts[-1] is chain[-1]]
            taker = to()
            moved = taker.put([(each.scope, each.within, each.balance()) for each in accounts], holds)
            for hold, there in zip(holds, moved, strict=True):
                del self._open[id(hold)]
                hold.moved_to = (taker, there)
            for account in accounts:
                del self._accounts[account.scope]
                self._note_moved(account.scope, taker)
            return taker

    def leave(self, scope: str, to: Taker) -> None:
        """Answer `Moved` for a scope that another ledger keeps."""
        with self._lock:
            self._note_moved(scope, to)

    def _note_moved(self, scope: str, to: Taker) -> None:
        self._moved[scope] = to
        if len(self._moved) > self._max_scopes:
            self._moved.popitem(last=False)

    def _check_is_here(self, scope: str) -> None:
        if scope in self._moved:
            raise Moved(self._moved[scope])

    def forget_holds(self) -> None:
        """Drop every open hold, and take a new lock: in a forked child both belong to threads it has not."""
        self._lock = threading.RLock()
        while self._open:
            self._close(next(iter(self._open.values())), 0)

    def _close(self, hold: _Held, actual_picousd: int) -> bool:
        if hold.state == CLOSED:
            return False
        if hold.state == OPEN:
            self._unreserve(hold)
        else:
            actual_picousd -= hold.amount_picousd
        hold.state = CLOSED
        for account in hold.accounts:
            account.settled_picousd += actual_picousd
        return True

    def _expire(self, now: float) -> None:
        while self._open:
            oldest = next(iter(self._open.values()))
            if oldest.expires_at_s > now:
                return
            self._unreserve(oldest)
            oldest.state = EXPIRED
            self.expired_holds += 1
            for account in oldest.accounts:
                account.settled_picousd += oldest.amount_picousd

    def _unreserve(self, hold: _Held) -> None:
        self._open.pop(id(hold), None)
        for account in hold.accounts:
            account.reserved_picousd -= hold.amount_picousd
            account.users -= 1

    def _account(self, scope: str) -> _Account:
        found = self._accounts.get(scope)
        if found is None:
            self._check_is_here(scope)
            return self._add(_Account(scope, None))
        self._accounts.move_to_end(scope)
        return found

    def _add(self, account: _Account) -> _Account:
        self._accounts[account.scope] = account
        if account.around is not None:
            account.around.users += 1
        if len(self._accounts) > self._max_scopes:
            self._forget_one(account)
        return account

    def _forget_one(self, newest: _Account) -> None:
        """Drop the least recently used scope that nothing uses, passing over a few that something does."""
        for account in list(islice(self._accounts.values(), LOOKED_AT)):
            if account.users or account is newest:
                self._accounts.move_to_end(account.scope)
            else:
                del self._accounts[account.scope]
                if account.around is not None:
                    account.around.users -= 1
                self.forgotten_scopes += 1
                return


def check_amount(amount_picousd: int) -> None:
    """Refuse an amount below zero.

    Raises:
        ValueError: It is.
    """
    if amount_picousd < 0:
        raise ValueError(f"an amount of {amount_picousd} pico-USD is negative")


_ledgers: weakref.WeakSet[MemoryLedger] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for ledger in list(_ledgers):
        ledger.forget_holds()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
