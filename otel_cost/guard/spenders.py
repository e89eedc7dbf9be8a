"""What spent the money of each execution, for the report of a refusal; in bounded memory."""

from __future__ import annotations

from collections import OrderedDict
from decimal import Decimal
from functools import lru_cache

from otel_cost.attribution import Payer
from otel_cost.money import PICO

MAX_EXECUTIONS = 4_096
MAX_NAMES = 16
"""Names with a sum of their own in one execution; what comes later is added to the others."""
TOLD = 3
OTHERS = "others"


def spender(payer: Payer, model: str) -> str:
    """Return what a call is booked under: its agent, component and model, as far as they are known."""
    return _joined(payer.agent, payer.component, model)


@lru_cache(maxsize=1_024)
def _joined(*texts: str) -> str:
    return " ".join(dict.fromkeys(filter(None, texts)))


class Spenders:
    """Exact sums by name. Whoever adds holds a lock."""

    def __init__(self) -> None:
        self._executions: OrderedDict[str, dict[str, int]] = OrderedDict()

    def add(self, execution_id: str, name: str, picousd: int) -> None:
        """Add what a call cost to its name; the oldest of too many executions is forgotten."""
        sums = self._executions.get(execution_id)
        if sums is None:
            sums = self._executions[execution_id] = {}
            if len(self._executions) > MAX_EXECUTIONS:
                self._executions.popitem(last=False)
        name = name if name in sums or len(sums) < MAX_NAMES else OTHERS
        sums[name or OTHERS] = sums.get(name or OTHERS, 0) + picousd

    def top(self, execution_id: str) -> tuple[str, ...]:
        """Return the dearest names with what they cost, dearest first; what is left over as others."""
        sums = dict(self._executions.get(execution_id, {}))
        others = sums.pop(OTHERS, 0)
        ordered = sorted(sums.items(), key=lambda item: (-item[1], item[0]))
        others += sum(picousd for _, picousd in ordered[TOLD:])
        told = [*ordered[:TOLD], *([(OTHERS, others)] if others else [])]
        return tuple(f"{name} ${Decimal(picousd) / PICO:f}" for name, picousd in told)
