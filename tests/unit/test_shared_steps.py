"""Processes of one execution count their steps together, in the file they share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_cost.budgets import ExecutionLimits, Policy
from otel_cost.detectors import Exchange, ModelCallOutcome, Step, ToolCallOutcome, Watch
from otel_cost.ledger.memory import MemoryLedger
from otel_cost.ledger.shared import SharedLedger
from otel_cost.ledger.sqlite import MAX_COUNTS, SqliteLedger
from tests.unit.test_ledger import Clock

CENT = 10**10
RUN = "execution:run"


@pytest.fixture
def clock() -> Clock:
    """The clock of the machine."""
    return Clock()


@pytest.fixture
def file(tmp_path: Path, clock: Clock) -> Iterator[SqliteLedger]:
    """The file of an execution."""
    tmp_path.chmod(0o700)
    made = SqliteLedger(tmp_path / "1.ledger", clock=clock)
    yield made
    made.close()


def sharing(file: SqliteLedger) -> Exchange:
    """Return how a process counts together with others."""
    return partial(file.tally, "run")


def tool(name: str) -> Step:
    """Return a step in which a tool ran."""
    return Step((ToolCallOutcome(name, 1),))


def test_calls_tokens_and_cost_add_up(file: SqliteLedger) -> None:
    """The call that is one too many of all processes passes a limit, and its message has all of the cost."""
    limits = ExecutionLimits(max_model_calls=3, max_total_tokens=1_000)
    one, other = Watch(), Watch()
    for watch in (one, other, one):
        assert watch.begin(limits, exchange=sharing(file)) == []
        watch.answered(ModelCallOutcome(CENT, 100, 20), sharing(file))
    (finding,) = other.begin(limits, exchange=sharing(file))
    assert (finding.kind, finding.count) == ("limit:max_model_calls", 4)
    assert finding.message.endswith("model call 4, where 3 are allowed; the execution has cost $0.03 so far")
    assert finding.cost_picousd == 3 * CENT
    other.take_back(sharing(file))
    one.answered(ModelCallOutcome(CENT, 600, 40), sharing(file))
    assert [each.count for each in other.begin(limits, exchange=sharing(file))] == [4, 1_000]


def test_tools_add_up_by_name(file: SqliteLedger) -> None:
    """Calls of one tool count wherever they ran, also in a process that did not call it."""
    limits = ExecutionLimits(max_tool_calls=4, max_calls_per_tool={"search": 2, "*": 3})
    one, other = Watch(), Watch()
    for watch, name in ((one, "search"), (other, "search"), (one, "read"), (one, "search")):
        watch.stepped(tool(name))
        watch.share(sharing(file))
    passed = other.begin(limits, exchange=sharing(file))
    assert [(each.kind, each.count, each.subject) for each in passed] == [
        ("limit:max_calls_per_tool", 3, "search")
    ]
    other.stepped(tool("write"))
    passed = one.begin(limits, exchange=sharing(file))
    assert [(each.kind, each.count) for each in passed] == [("limit:max_calls_per_tool", 3)]
    other.share(sharing(file))
    passed = one.begin(limits, exchange=sharing(file))
    assert {(each.kind, each.count) for each in passed} == {
        ("limit:max_tool_calls", 5),
        ("limit:max_calls_per_tool", 3),
    }


def test_a_process_is_as_old_as_the_execution(file: SqliteLedger, clock: Clock) -> None:
    """A worker that starts late has only what is left of the time; a clock that is put back gives none."""
    limits = ExecutionLimits(max_wall_time_s=60)
    first = Watch(clock=clock)
    first.share(sharing(file))
    clock.now += 50
    late = Watch(clock=clock)
    assert late.begin(limits, exchange=sharing(file)) == []
    clock.now += 10
    (finding,) = late.begin(limits, exchange=sharing(file))
    assert (finding.kind, finding.count) == ("limit:max_wall_time_s", 60)
    file._clock = lambda: 0.0
    assert late.begin(limits, exchange=sharing(file)) == [finding]


def test_what_cannot_be_told_now_is_told_later(file: SqliteLedger) -> None:
    """While the file fails, a process counts its own; afterwards nothing is lost and nothing counts twice."""

    def failing(age_s: float, counts: Mapping[str, int]) -> None:
        return None

    limits = ExecutionLimits(max_model_calls=2)
    one, other = Watch(), Watch()
    one.begin(limits, exchange=sharing(file))
    assert other.begin(limits, exchange=failing) == []
    assert other.begin(limits, exchange=failing) == []
    assert [each.count for each in other.begin(limits, exchange=failing)] == [3]
    other.take_back(failing)
    other.share(sharing(file))
    assert file.tally("run", 0, {}).counts["model_calls"] == 3
    assert [each.count for each in one.begin(limits, exchange=sharing(file))] == [4]


def test_a_file_that_forgot_takes_nothing_back(file: SqliteLedger) -> None:
    """What a process counted itself goes on to count, whatever the file still knows."""
    limits = ExecutionLimits(max_model_calls=2)
    watch = Watch()
    watch.begin(limits, exchange=sharing(file))
    watch.begin(limits, exchange=sharing(file))
    file.tally("run", 0, {"model_calls": -2})
    assert [each.count for each in watch.begin(limits, exchange=sharing(file))] == [3]


def test_a_forked_child_tells_only_what_it_adds(file: SqliteLedger) -> None:
    """It has its parent's counts, which the parent tells."""
    limits = ExecutionLimits(max_model_calls=3)
    parent = Watch()
    parent.begin(limits, exchange=sharing(file))
    parent.begin(limits)  # by another thread, which has not told yet
    parent.after_fork()  # from here on it is the child
    assert parent.begin(limits, exchange=sharing(file)) == []
    assert file.tally("run", 0, {}).counts["model_calls"] == 2
    file.tally("run", 0, {"model_calls": 1})  # the thread has
    assert [each.count for each in parent.begin(limits, exchange=sharing(file))] == [4]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["begin", "take_back", "answered", "share"]))))
def test_the_file_has_the_sum(tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, str]]) -> None:
    """Whatever four processes do in whatever order: what all of them know is what each of them did."""
    directory = tmp_path_factory.mktemp("shared")
    directory.chmod(0o700)
    made = SqliteLedger(directory / "1.ledger")
    watches = [Watch() for _ in range(4)]
    for number, step in steps:
        watch, exchange = watches[number], sharing(made)
        if step == "begin":
            watch.begin(ExecutionLimits(), exchange=exchange)
        elif step == "answered":
            watch.answered(ModelCallOutcome(CENT, 1, 2), exchange)
        else:
            getattr(watch, step)(exchange)
    counts = made.tally("run", 0, {}).counts
    for name in ("model_calls", "tokens", "cost_picousd"):
        assert counts.get(name, 0) == sum(getattr(watch, name) for watch in watches)
    made.close()


def test_executions_are_apart(file: SqliteLedger) -> None:
    """What one did is nothing to another."""
    file.tally("a", 5, {"model_calls": 2})
    told = file.tally("b", 1, {})
    assert (dict(told.counts), told.age_s) == ({}, 1)


def test_names_are_bounded(file: SqliteLedger) -> None:
    """An agent that makes up tools does not fill the file; what was known before goes on."""
    file.tally("run", 0, {f"tool:{number}": 1 for number in range(2 * MAX_COUNTS)})
    counts = file.tally("run", 0, {"tool:0": 1, "new": 1}).counts
    assert len(counts) == MAX_COUNTS
    assert counts["tool:0"] == 2


def test_counts_are_forgotten_with_their_execution(tmp_path: Path, clock: Clock) -> None:
    """After a day that nobody counted, or where there are too many executions."""
    tmp_path.chmod(0o700)
    path = tmp_path / "1.ledger"
    made = SqliteLedger(path, clock=clock)
    made.tally("old", 0, {"model_calls": 1})
    clock.now += 90_000
    for number in range(5):
        clock.now += 1
        made.tally(f"new {number}", 0, {"model_calls": 1})
    made.close()
    made = SqliteLedger(path, clock=clock, max_scopes=3)
    known = [name for name in ("old", *(f"new {n}" for n in range(5))) if made.tally(name, 0, {}).counts]
    assert known == ["new 2", "new 3", "new 4"]
    made.close()


def test_only_what_is_shared_is_counted_together(file: SqliteLedger) -> None:
    """In memory there is nobody to count with; what nothing limits is shared where that is asked for."""
    assert MemoryLedger().shared_in(RUN) is None
    ledger = SharedLedger()
    ledger._files[file.path] = file
    ledger.open(RUN, None)
    assert ledger.share(RUN) is None
    assert ledger.shared_in(RUN) is None
    assert ledger.share(RUN, even_unlimited=True) == file.path
    assert ledger.shared_in(RUN) is file
    assert file.shared_in(RUN) is file


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({}, False),
        ({"budget_usd": 1, "max_depth": 2}, False),
        ({"max_calls_per_tool": {"search": None}}, False),
        ({"max_calls_per_tool": {"search": 3}}, True),
        ({"max_model_calls": 0}, True),
        ({"max_wall_time_s": 5.0}, True),
    ],
)
def test_which_limits_are_on_steps(limits: dict[str, object], expected: bool) -> None:
    """Money and depth need no counting together; limits of an agent or a feature are as good as any."""
    made = ExecutionLimits(**limits)  # type: ignore[arg-type]
    assert made.limits_steps is expected
    assert Policy(execution=made).limits_steps is expected
    assert Policy(agents={"*": made}).limits_steps is expected
    assert Policy(features={"*": made}).limits_steps is expected
