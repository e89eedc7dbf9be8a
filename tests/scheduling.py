"""Hands tests to the workers of pytest-xdist: what shares a fixture that takes long stays together."""

from __future__ import annotations

import re
from typing import Any

from xdist.scheduler import LoadScopeScheduling

LONGEST = (
    "tests/packaging/test_installs.py",
    "tests/agents/test_kill_matrix.py",
    "tests/clickhouse/test_agreement.py",
    "tests/clickhouse/test_rollups.py",
    "tests/clickhouse/test_move.py",
    "tests/clickhouse/test_reprice.py",
    "tests/clickhouse/test_upgrades.py",
    "tests/clickhouse/test_delivery.py",
    "tests/clickhouse/test_migrations.py",
    "tests/server/test_import_command.py",
    "tests/clickhouse/test_price_push.py",
    "tests/cli/test_terminal.py",
    "tests/cli/test_reports.py",
    "tests/server/test_process.py",
    "tests/anomalies/test_planted.py",
    "tests/agents/test_matrix.py",
    "tests/clickhouse/test_anomalies.py",
    "tests/clickhouse/test_queries.py",
    "tests/docs/test_sql.py",
    "tests/guard/test_processes.py",
    "tests/agents/test_zero_code.py",
)
"""Files that take longest, first of all: begun last, one would keep a single worker busy at the end."""
APART = ("tests/packaging/test_installs.py",)
"""Files whose tests share nothing, and take minutes each."""
_SHARED = re.compile(r"\[(chdb|server|cluster|(?:current|gateways|crewai)-[a-z]+)\b")
"""What a test's name says it shares with its neighbours: a store, or a process of the kill matrix."""


def unit_of(nodeid: str) -> str:
    """Return what a test is handed out with: its file, and in there what needs the same store or process."""
    file, _, name = nodeid.partition("::")
    if file in APART:
        return nodeid
    shared = _SHARED.search(name)
    return f"{file}[{shared[1]}]" if shared else file


def turn_of(unit: str) -> int:
    """Return when a unit's turn is, counted from the first."""
    file = re.split(r"\[|::", unit)[0]
    return LONGEST.index(file) if file in LONGEST else len(LONGEST)


def _is_of_cluster(unit: str) -> bool:
    """Whether a unit needs the cluster of the ClickHouse tests, which takes forty seconds to make."""
    return unit.endswith("[cluster]")


class UnitScheduling(LoadScopeScheduling):
    """Hands out one unit after the other: the longest files, then those of the most tests.

    While there are others, a worker without a cluster gets no unit that needs one which another has made.
    """

    def _split_scope(self, nodeid: str) -> str:
        return unit_of(nodeid)

    def _assign_work_unit(self, node: Any) -> None:
        has_cluster = {each for each, units in self.assigned_work.items() if any(map(_is_of_cluster, units))}
        is_for_others = bool(has_cluster) and node not in has_cluster
        chosen = min(self.workqueue, key=lambda unit: (is_for_others and _is_of_cluster(unit), turn_of(unit)))
        self.workqueue.move_to_end(chosen, last=False)
        super()._assign_work_unit(node)
