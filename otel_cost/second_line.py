"""Where spans meet the guard: calls that it cannot see at a client are known by their spans alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from opentelemetry.context import Context

from otel_cost.accounting import Span

SpanKey = tuple[int, int]


class Spent(NamedTuple):
    """What a span added to its execution.

    Attributes:
        is_remainder: It is what the calls below the span do not cover.
    """

    span: Span
    picousd: int
    execution_id: str
    is_remainder: bool = False


class SecondLine(Protocol):
    """What a span processor tells the guard."""

    def started(self, key: SpanKey, attributes: Mapping[str, Any], scope: str, at: Context | None) -> None:
        """Note a span, or refuse the call that it is about.

        Raises:
            BudgetExceeded: The call passes no client where it could be refused, and nothing is left for it.
        """
        ...

    def ended(self, key: SpanKey, spent: Spent | None) -> None:
        """Count what a model call cost, unless it was metered; None for a span that costs nothing itself."""
        ...


in_force: list[SecondLine] = []
"""The guard's, while there is one."""
