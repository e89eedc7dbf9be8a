"""Hands tests to the workers of pytest-xdist: what shares a fixture that takes long stays together."""

from __future__ import annotations

import re
from typing import Any

from xdist.scheduler import LoadScopeScheduling

LONGEST = ("tests/agents/test_kill_matrix.py",)
"""Files that take longest, the longest first: begun last, one would keep a single worker busy at the end."""
_SHARED = re.compile(r"\[(chdb|server|cluster|(?:current|gateways|crewai)-[a-z]+)\b")
"""What a test's name says it shares with its neighbours: a store, or a process of the kill matrix."""


def unit_of(nodeid: str) -> str:
    """Return what a test is handed out with: its file, and in there what needs the same store or process."""
    file, _, name = nodeid.partition("::")
    shared = _SHARED.search(name)
    return f"{file}[{shared[1]}]" if shared else file


def turn_of(unit: str) -> int:
    """Return when a unit's turn is, counted from the first."""
    file = unit.partition("[")[0]
    return LONGEST.index(file) if file in LONGEST else len(LONGEST)


class UnitScheduling(LoadScopeScheduling):
    """Hands out one unit after the other: the longest files, then those of the most tests."""

    def _split_scope(self, nodeid: str) -> str:
        return unit_of(nodeid)

    def _assign_work_unit(self, node: Any) -> None:
        self.workqueue.move_to_end(min(self.workqueue, key=turn_of), last=False)
        super()._assign_work_unit(node)
