"""Ledgers: what each scope may spend, has spent and has promised. They decide; everything else reports.

A call is paid for in two steps, so that calls in flight cannot spend the same money: `reserve` holds the most
it can cost, `settle` replaces the hold by what it did cost, `release` gives it back when nothing was spent.
Amounts are whole pico-dollars (1e-12 USD).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

OPEN, EXPIRED, CLOSED = "open", "expired", "closed"


class Busy(Exception):  # noqa: N818 (an answer, not an error)
    """Others are using the ledger: nothing was changed, and it may be asked again in a moment."""


@dataclass(slots=True, eq=False)
class Hold:
    """Money reserved for one call.

    Attributes:
        scope: What it was reserved in, and in everything around that.
        amount_picousd: How much.
        owner: Who settles it, for people: `POST api.openai.com gpt-5`.
        expires_at_s: On the ledger's clock; then all of it counts as spent, until its owner says better.
        state: `open`, `expired` or `closed`.
    """

    scope: str
    amount_picousd: int
    owner: str
    expires_at_s: float
    state: str = OPEN


class Balance(NamedTuple):
    """How a scope stands. `limit_picousd` is None where nothing limits it."""

    limit_picousd: int | None
    settled_picousd: int
    reserved_picousd: int

    @property
    def remaining_picousd(self) -> int | None:
        """What may still be reserved; None without a limit, never below 0."""
        if self.limit_picousd is None:
            return None
        return max(0, self.limit_picousd - self.settled_picousd - self.reserved_picousd)


class Refusal(NamedTuple):
    """Why a reservation was refused: the scope that has too little left, and how it stands."""

    scope: str
    balance: Balance
    asked_picousd: int


class Tally(NamedTuple):
    """What all processes of an execution did.

    Attributes:
        age_s: Seconds since the first of them began.
        counts: How much of what.
    """

    age_s: float
    counts: Mapping[str, int]


class Tallying(Protocol):
    """Counts what the processes of an execution do."""

    def tally(self, execution_id: str, age_s: float, counts: Mapping[str, int]) -> Tally:
        """Add what one of them did, and how long it has known of the execution. Returns what all did."""
        ...


class Ledger(Protocol):
    """What the guard needs of a ledger. Every method may be called from any thread."""

    def open(self, scope: str, limit_picousd: int | None, within: str = "") -> None:
        """Begin a scope, inside another one or none. One that is open stays as it is."""
        ...

    def limit(self, scope: str, limit_picousd: int | None) -> None:
        """Change the limit of a scope, as after an approval; what it has spent stays."""
        ...

    def reserve(self, scope: str, amount_picousd: int, *, owner: str = "") -> Hold | Refusal:
        """Hold an amount in a scope and all scopes around it, or say which of them has too little left.

        Raises:
            Busy: It cannot be told now.
        """
        ...

    def settle(self, hold: Hold, actual_picousd: int) -> bool:
        """Replace a hold by what was spent. Returns False, and changes nothing, when it was closed before."""
        ...

    def release(self, hold: Hold) -> bool:
        """Give a hold back. Returns False, and changes nothing, when it was closed before."""
        ...

    def spend(self, scope: str, amount_picousd: int) -> None:
        """Add what was spent without a hold. It counts even where it passes the limit."""
        ...

    def balance(self, scope: str) -> Balance:
        """Return how a scope stands; an unknown one has spent nothing."""
        ...

    def shared_in(self, scope: str) -> Tallying | None:
        """Return where processes that share a scope count what they do; None where no others share it."""
        ...
