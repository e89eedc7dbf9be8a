"""Who reads the answers that are still to come: nobody can wait for what they would have to give back."""

from __future__ import annotations

import asyncio
import threading
import weakref
from typing import TYPE_CHECKING, NamedTuple

from otel_cost.ledger import Hold, Refusal

if TYPE_CHECKING:
    from otel_cost.guard import Ticket

OWN_WAIT_S = 1.0
"""How long a call waits all the same: another thread may be about to read what this one has opened."""


class Reader(NamedTuple):
    """A thread, and the task in it where there is one."""

    thread: int
    task: weakref.ref[asyncio.Task[object]] | None = None

    @classmethod
    def here(cls) -> Reader:
        """Return who is running."""
        loop = asyncio._get_running_loop()  # None where none runs, which `get_running_loop` raises for
        task = None if loop is None else asyncio.current_task(loop)
        return cls(threading.get_ident(), None if task is None else weakref.ref(task))

    def is_held_up_by(self, other: Reader, *, is_async: bool) -> bool:
        """Return whether nothing goes on in another one while this one waits.

        Args:
            is_async: Only its task waits, else its thread.
        """
        if is_async:
            return self.task is not None and self.task == other.task
        return self.thread == other.thread


class InFlight:
    """The calls whose holds are open, each with who read of its answer last. Safe under threads."""

    def __init__(self) -> None:
        self._tickets: weakref.WeakSet[Ticket] = weakref.WeakSet()
        self.renew_lock()

    def renew_lock(self) -> None:
        """Take a new lock; the collector may end a call while its thread has it."""
        self._lock = threading.RLock()

    def add(self, ticket: Ticket) -> None:
        """Note a call that was admitted."""
        with self._lock:
            self._tickets.add(ticket)

    def discard(self, ticket: Ticket) -> None:
        """Forget a call that was settled."""
        with self._lock:
            self._tickets.discard(ticket)

    def is_vain(self, refusal: Refusal, *, is_async: bool) -> bool:
        """Return whether a call has no room as long as whoever waits with it reads no other answer."""
        limit, settled, _ = refusal.balance
        own = self._own_picousd(refusal.scope, is_async=is_async)
        return bool(own) and settled + own + refusal.asked_picousd > (limit or 0)

    def _own_picousd(self, scope: str, *, is_async: bool) -> int:
        here = Reader.here()
        with self._lock:
            tickets = list(self._tickets)
        own = [each for each in tickets if here.is_held_up_by(each.reader, is_async=is_async)]
        holds: list[Hold] = []
        for ticket in own:
            if any(budget.scope == scope for budget in ticket.budget.chain()):
                holds += ticket.holds()
        return sum(hold.amount_picousd for hold in holds)
