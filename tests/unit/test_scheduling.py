"""Tests that share what takes long to make go to one worker, and long ones go first."""

from __future__ import annotations

from collections import OrderedDict
from types import SimpleNamespace
from typing import Any

import pytest

from tests.data import ROOT

pytest.importorskip("xdist")

from tests.scheduling import APART, LONGEST, UnitScheduling, turn_of, unit_of

QUERIES = "tests/clickhouse/test_queries.py"
KILL = "tests/agents/test_kill_matrix.py"


@pytest.mark.parametrize(
    ("nodeid", "unit"),
    [
        (f"{QUERIES}::test_typed_results[server]", f"{QUERIES}[server]"),
        (f"{QUERIES}::test_slices_add_up[cluster-spend_by_day-agent]", f"{QUERIES}[cluster]"),
        (f"{QUERIES}::test_every_case_belongs_to_a_query_or_view", QUERIES),
        (f"{KILL}::test_nothing_is_sent[current-none-openai chat/plain]", f"{KILL}[current-none]"),
        (f"{KILL}::test_the_process_ends_too[current-none]", f"{KILL}[current-none]"),
        ("tests/unit/test_x.py::test_names[clusters]", "tests/unit/test_x.py"),
        (f"{APART[0]}::test_others[3.10]", f"{APART[0]}::test_others[3.10]"),
    ],
)
def test_a_unit_is_what_shares_a_fixture(nodeid: str, unit: str) -> None:
    """A file is divided by the store or the process that the tests name, and only by that."""
    assert unit_of(nodeid) == unit


def test_files_that_are_named_exist() -> None:
    """A file that was renamed is not left in a list that would then say nothing."""
    assert [name for name in {*LONGEST, *APART} if not (ROOT / name).is_file()] == []


def test_long_files_have_their_turn_first() -> None:
    """In the order of the list, whatever part of the file it is; all others come after."""
    units = ["tests/unit/test_money.py", f"{LONGEST[2]}[chdb]", f"{LONGEST[0]}::test_x[3.10]", LONGEST[1]]
    assert sorted(units, key=turn_of) == [units[2], units[3], units[1], units[0]]


class Worker:
    """Takes what it is given."""

    def __init__(self) -> None:
        self.given: list[int] = []

    def send_runtest_some(self, indices: list[int]) -> None:
        """Take tests by their numbers."""
        self.given += indices


def test_a_cluster_is_made_where_there_is_one() -> None:
    """A worker without a cluster gets other units, and the last of a cluster when none is left."""
    tests = [f"tests/a.py::test[{kind}]" for kind in ("cluster", "server")]
    tests += [f"tests/b.py::test[{kind}]" for kind in ("cluster", "server")] + ["tests/c.py::test[cluster]"]
    config: Any = SimpleNamespace(option=SimpleNamespace(), getvalue=lambda name: ["2*popen"])
    scheduling = UnitScheduling(config)
    first, second = Worker(), Worker()
    for worker in (first, second):
        scheduling.assigned_work[worker] = {}  # type: ignore[index]
        scheduling.registered_collections[worker] = tests  # type: ignore[index]
    scheduling.workqueue = OrderedDict((unit_of(test), {test: False}) for test in tests)
    scheduling._assign_work_unit(first)
    scheduling._assign_work_unit(second)
    scheduling._assign_work_unit(second)
    scheduling._assign_work_unit(first)
    scheduling._assign_work_unit(second)
    assert (first.given, second.given) == ([0, 2], [1, 3, 4])
