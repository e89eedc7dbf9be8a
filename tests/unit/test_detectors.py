"""Patterns of waste, what they have cost, and limits on steps."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_cost.budgets import ExecutionLimits
from otel_cost.detectors import (
    CONTEXT_GROWTH,
    DEFAULT_THRESHOLDS,
    DETECTORS,
    IDENTICAL_CALLS,
    MAX_TOOLS,
    NEAR_IDENTICAL_CALLS,
    PING_PONG,
    RETRY_STORM,
    Finding,
    ModelCallOutcome,
    Step,
    ToolCallOutcome,
    Watch,
    Watches,
    fingerprint,
    similarity_ratio,
    sketch,
    thresholds,
)

CENT = 10**10
"""In pico-USD."""


def tool(
    name: str, arguments: str = "", *, failed: bool = False, result: str | None = None
) -> ToolCallOutcome:
    """Return a tool call, as it is seen from a request."""
    came = None if result is None else fingerprint(result)
    return ToolCallOutcome(name, fingerprint(arguments), sketch(arguments), failed, came)


def play(
    calls: Sequence[ToolCallOutcome], watch: Watch | None = None, *, each: int = CENT, conversation: int = 0
) -> list[Finding]:
    """Return the findings of a run in which each tool call is asked for by a model call."""
    watch = watch or Watch()
    found: list[Finding] = []
    for call in calls:
        found += watch.answered(ModelCallOutcome(each, 100, 10, "gpt-5", conversation=conversation))
        found += watch.stepped(Step((call,), conversation=conversation))
    return found


def kinds(found: list[Finding]) -> list[tuple[str, int]]:
    """Return what was found and how often."""
    return [(one.kind, one.count) for one in found]


def test_every_detector_has_thresholds() -> None:
    """The names of detectors and of their thresholds are one list."""
    assert tuple(DEFAULT_THRESHOLDS) == DETECTORS
    assert thresholds() == thresholds({})
    assert thresholds({IDENTICAL_CALLS: {"calls": 9}}).identical_calls == 9
    assert thresholds({CONTEXT_GROWTH: {"growth_ratio": 2}}).growth_ratio == 2


@pytest.mark.parametrize(
    "changed", [{"loop": {"calls": 3}}, {IDENTICAL_CALLS: {"call": 3}}, {IDENTICAL_CALLS: {"calls": 0}}]
)
def test_wrong_thresholds_are_refused(changed: dict[str, dict[str, float]]) -> None:
    """A name that does not exist, or a number that can never be reached from above 0, is an error."""
    with pytest.raises(ValueError, match=r"calls?"):
        thresholds(changed)


# Identical calls


def test_the_third_identical_call_is_found_with_its_cost() -> None:
    """Two are chance; the third tells the tool and what all three cost."""
    watch = Watch()
    assert play([tool("visit", "x")] * 2, watch) == []
    (found,) = play([tool("visit", "x")], watch)
    assert (found.kind, found.count, found.cost_picousd, found.subject) == (
        IDENTICAL_CALLS,
        3,
        3 * CENT,
        "visit",
    )
    assert found.message == "identical_calls: 3 calls of visit with the same arguments, $0.03 so far"


def test_a_pattern_is_told_again_when_it_has_doubled() -> None:
    """A loop of a hundred calls is told six times, not ninety-eight."""
    found = play([tool("visit", "x")] * 100)
    assert kinds(found) == [(IDENTICAL_CALLS, count) for count in (3, 6, 12, 24, 48, 96)]


def test_other_arguments_are_other_calls() -> None:
    """The same tool with different arguments is how agents work."""
    assert play([tool("visit", str(page)) for page in range(50)]) == []


def test_a_call_that_brings_something_else_each_time_is_no_loop() -> None:
    """Turning pages, polling a job that moves: the same call, another result."""
    assert play([tool("page_down", result=f"page {page}") for page in range(50)]) == []


def test_running_the_tests_after_each_edit_is_work() -> None:
    """The same command with the same output counts anew after a call that was new and worked."""
    calls = []
    for edit in range(20):
        calls += [tool("edit", f"{edit}", result="ok"), tool("run", "pytest", result="1 failed")]
    assert play(calls) == []


def test_failing_again_counts_even_between_other_calls() -> None:
    """A call that fails again and again is not excused by a visit elsewhere."""
    calls = [tool("page_down", failed=True), tool("visit", "y"), tool("page_down", failed=True)]
    assert kinds(play([*calls, tool("page_down", failed=True)])) == [(IDENTICAL_CALLS, 3)]


def test_failures_far_apart_do_not_count_together() -> None:
    """Six calls in between, and it is another attempt."""
    others = [tool("visit", str(page)) for page in range(40)]
    calls = [call for start in (0, 6, 12) for call in (tool("get", failed=True), *others[start : start + 6])]
    assert play(calls) == []


def test_side_by_side_agents_do_not_make_a_loop() -> None:
    """Twenty sub-agents of one execution that each list the files once are twenty conversations."""
    watch = Watch()
    for agent in range(20):
        assert play([tool("list_files", result="a b")], watch, conversation=agent) == []
    assert watch.tool_calls == 20


def test_calls_of_one_reply_share_its_cost() -> None:
    """Three calls asked for at once cost one reply, to the last pico-dollar."""
    watch = Watch()
    watch.answered(ModelCallOutcome(10))
    (found,) = watch.stepped(Step((tool("get"),) * 3))
    assert (found.count, found.cost_picousd) == (3, 10)


# Rounds


@pytest.mark.parametrize("period", [2, 3, 4])
def test_rounds_are_found_at_the_third(period: int) -> None:
    """A B A B A B: the tools, the rounds and what all of them cost."""
    names = "ABCD"[:period]
    (found,) = (one for one in play([tool(name) for name in names * 3]) if one.kind == PING_PONG)
    assert (found.kind, found.count, found.subject) == (PING_PONG, 3, " ".join(names))
    assert found.cost_picousd == 3 * period * CENT


def test_rounds_that_bring_something_new_are_work() -> None:
    """Reading and writing in turn, with another result each time, is no ping-pong."""
    calls = []
    for turn in range(20):
        calls += [tool("read", result=f"{turn}"), tool("write", result=f"w{turn}")]
    assert play(calls) == []


def test_a_call_in_between_ends_the_rounds() -> None:
    """A B A B C A B A B has no three rounds."""
    assert PING_PONG not in {one.kind for one in play([tool(name) for name in "ABABCABAB"])}


def test_one_call_in_a_row_is_not_a_round() -> None:
    """A A A A A A A A is the business of identical calls alone."""
    assert {kind for kind, _ in kinds(play([tool("A")] * 12))} == {IDENTICAL_CALLS}


# Near-identical calls

SEARCHES = [f"cheap direct flights from Berlin to Oslo in {word}" for word in "abcdefghij"]


def test_searches_put_otherwise_that_find_the_same_are_found() -> None:
    """The fifth search with nearly the same words and the same result."""
    found = play([tool("search", text, result="nothing") for text in SEARCHES[:5]])
    assert kinds(found) == [(NEAR_IDENTICAL_CALLS, 5)]
    assert found[0].cost_picousd == 5 * CENT


def test_searches_put_otherwise_that_all_fail_are_found() -> None:
    """Errors may differ, the calls still fail."""
    calls = [tool("search", text, failed=True, result=text) for text in SEARCHES[:5]]
    assert (NEAR_IDENTICAL_CALLS, 5) in kinds(play(calls))


def test_searches_that_find_something_else_are_work() -> None:
    """Nearly the same question with another answer is progress."""
    assert play([tool("search", text, result=text) for text in SEARCHES]) == []


def test_edits_between_test_runs_are_work() -> None:
    """Edits look alike and all say ok; that the tests between them say something new is progress."""
    calls = []
    for turn, text in enumerate(SEARCHES):
        calls += [tool("edit", text, result="ok"), tool("run", "pytest", result=f"{turn} failed")]
    assert play(calls) == []


def test_different_questions_are_not_similar() -> None:
    """The same result alone makes no pattern."""
    words = [f"{word} {word}x {word}y {word}z" for word in "abcdefghij"]
    assert play([tool("search", text, result="nothing") for text in words]) == []


@given(
    st.lists(st.integers(0, 15), min_size=1, unique=True),
    st.lists(st.integers(0, 15), min_size=1, unique=True),
)
def test_short_texts_are_compared_exactly(one: list[int], other: list[int]) -> None:
    """With sixteen different words or fewer in both, the share of common words is exact."""
    words = [" ".join(f"word{number}" for number in numbers) for numbers in (one, other)]
    expected = len({*one} & {*other}) / len({*one} | {*other})
    assert similarity_ratio(sketch(words[0]), sketch(words[1])) == expected


# Retry storms


def test_three_replies_thrown_away_in_a_row() -> None:
    """Told by the application, which knows that it could not use them."""
    watch = Watch()
    found = [one for _ in range(3) for one in watch.answered(ModelCallOutcome(CENT, is_discarded=True))]
    assert kinds(found) == [(RETRY_STORM, 3)]
    assert found[0].cost_picousd == 3 * CENT


def test_a_reply_that_was_used_ends_the_storm() -> None:
    """Two, one that was good, and two again are no storm."""
    watch = Watch()
    for is_discarded in (True, True, False, True, True):
        assert watch.answered(ModelCallOutcome(CENT, is_discarded=is_discarded)) == []


def test_malformed_calls_are_replies_thrown_away() -> None:
    """Seen from requests: the reply before each could not be read."""
    watch = Watch()
    found: list[Finding] = []
    for _ in range(3):
        found += watch.answered(ModelCallOutcome(CENT))
        found += watch.stepped(Step(is_malformed=True))
    assert kinds(found) == [(RETRY_STORM, 3)]
    assert found[0].cost_picousd == 3 * CENT


def test_a_tool_call_that_can_be_read_ends_the_row() -> None:
    """Malformed twice, then a call that ran, then malformed twice: no storm."""
    watch = Watch()
    malformed = Step(is_malformed=True)
    for step in (malformed, malformed, Step((tool("get"),)), malformed, malformed):
        assert watch.stepped(step) == []


def test_five_failed_model_calls_in_a_row() -> None:
    """What the SDKs do about one failure, three attempts, is no storm; the fifth is."""
    watch = Watch()
    failed = ModelCallOutcome(0, is_failed=True, model="gpt-5")
    assert [one for _ in range(4) for one in watch.answered(failed)] == []
    assert kinds(watch.answered(failed)) == [(RETRY_STORM, 5)]


def test_an_answer_ends_a_row_of_failures() -> None:
    """Every second request fails: slow, but no storm."""
    watch = Watch()
    for turn in range(40):
        assert watch.answered(ModelCallOutcome(0, is_failed=bool(turn % 2))) == []


def test_eight_failed_tools_in_a_row() -> None:
    """Whatever they are."""
    calls = [tool(f"t{number}", failed=True) for number in range(8)]
    assert play(calls[:7]) == []
    assert kinds(play(calls)) == [(RETRY_STORM, 8)]


def test_a_tool_that_works_ends_the_row() -> None:
    """Seven failures, one call that works, and seven more: an agent finding its way."""
    failed = [tool(f"t{number}", failed=True) for number in range(14)]
    assert play([*failed[:7], tool("get"), *failed[7:]]) == []


def test_a_question_asked_again_although_it_was_answered() -> None:
    """A loop around a parser that never succeeds sends the same request for ever."""
    watch, found = Watch(), []
    for _ in range(11):
        found += watch.stepped(Step(tail=7))
        found += watch.answered(ModelCallOutcome(CENT))
    assert kinds(found + watch.stepped(Step(tail=7))) == [(RETRY_STORM, 10)]


def test_another_question_ends_the_row() -> None:
    """Two questions asked six times each are no storm."""
    watch = Watch()
    for tail in (7, 8):
        for _ in range(7):
            assert watch.stepped(Step(tail=tail)) == []
            assert watch.answered(ModelCallOutcome(CENT)) == []


def test_the_same_question_asked_at_once_is_no_storm() -> None:
    """Sampling several answers in parallel is a way of working."""
    watch = Watch()
    found = [one for _ in range(30) for one in watch.stepped(Step(tail=7))]
    found += [one for _ in range(30) for one in watch.answered(ModelCallOutcome(CENT))]
    assert found == []


# Growth without progress


def climbing(calls: int) -> list[ModelCallOutcome]:
    """Return calls each of which costs a tenth more than the one before."""
    return [ModelCallOutcome(CENT * 11**number // 10**number, model="gpt-5") for number in range(calls)]


def test_dearer_calls_without_progress_are_found() -> None:
    """From the last progress on: eight calls, dearer than they were, and what they cost."""
    watch = Watch()
    play([tool("visit", str(page)) for page in range(5)], watch)
    found = [one for call in climbing(8) for one in watch.answered(call)]
    assert kinds(found) == [(CONTEXT_GROWTH, 8)]
    assert found[0].cost_picousd == sum(call.cost_picousd for call in climbing(8))


def test_growth_from_the_first_request_on() -> None:
    """The task is the only thing that was ever new."""
    watch = Watch()
    watch.stepped(Step(news=1))
    assert kinds([one for call in climbing(8) for one in watch.answered(call)]) == [(CONTEXT_GROWTH, 8)]


def test_dearer_calls_with_progress_are_healthy() -> None:
    """A context grows twelvefold in a healthy run, as long as something comes of it."""
    watch = Watch()
    for number, call in enumerate(climbing(60)):
        assert watch.answered(call) == []
        assert watch.stepped(Step((tool("visit", str(number), result="seen"),))) == []


def test_failing_calls_are_no_progress() -> None:
    """New arguments alone do not count where the call fails."""
    watch = Watch()
    play([tool("visit", str(page)) for page in range(5)], watch)
    found: list[Finding] = []
    for number, call in enumerate(climbing(8)):
        found += watch.answered(call)
        watch.stepped(Step((tool("visit", f"bad {number}", failed=True),)))
    assert kinds(found) == [(CONTEXT_GROWTH, 8)]


def test_a_conversation_whose_steps_nobody_sees_is_not_judged() -> None:
    """Where no progress was ever seen, its absence means nothing."""
    watch = Watch()
    assert [one for call in climbing(60) for one in watch.answered(call)] == []


def test_a_chat_goes_on_with_its_users_words() -> None:
    """Without tools, each new message is progress."""
    watch = Watch()
    for number, call in enumerate(climbing(60)):
        assert watch.stepped(Step(news=number)) == []
        assert watch.answered(call) == []


def test_calls_that_cost_the_same_are_not_growth() -> None:
    """Standing still without climbing is left to the other detectors."""
    watch = Watch()
    play([tool("visit", "x")], watch)
    assert [one for _ in range(60) for one in watch.answered(ModelCallOutcome(CENT))] == []


# Limits


@pytest.mark.parametrize("calls", [0, 1, 3])
def test_model_calls_are_limited_before_they_are_sent(calls: int) -> None:
    """As many as the limit says, and not the next."""
    watch, limits = Watch(), ExecutionLimits(max_model_calls=calls)
    assert [one for _ in range(calls) for one in watch.begin(limits)] == []
    (found,) = watch.begin(limits)
    assert (found.kind, found.count) == ("limit:max_model_calls", calls + 1)
    assert f"model call {calls + 1}, where {calls} are allowed" in found.message


def test_a_call_that_was_not_sent_does_not_count() -> None:
    """A refused call leaves room for one after the limit was raised."""
    watch = Watch()
    watch.begin(ExecutionLimits(max_model_calls=1))
    assert watch.begin(ExecutionLimits(max_model_calls=1))
    watch.take_back()
    assert watch.begin(ExecutionLimits(max_model_calls=2)) == []


def test_concurrent_calls_are_counted_when_they_begin() -> None:
    """Of twenty calls at once under a limit of five, five are within it."""
    watch, limits = Watch(), ExecutionLimits(max_model_calls=5)
    results: list[list[Finding]] = []
    threads = [threading.Thread(target=lambda: results.append(watch.begin(limits))) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(not found for found in results) == 5


def test_tool_calls_are_limited() -> None:
    """All of them together, and those of one tool by its name."""
    watch = Watch()
    play([tool("search", "a"), tool("search", "b"), tool("visit", "c")], watch)
    assert watch.begin(ExecutionLimits(max_tool_calls=3)) == []
    assert kinds(watch.begin(ExecutionLimits(max_tool_calls=2))) == [("limit:max_tool_calls", 3)]
    assert watch.begin(ExecutionLimits(max_calls_per_tool={"search": 2})) == []
    (found,) = watch.begin(ExecutionLimits(max_calls_per_tool={"search": 1, "*": 5}))
    assert (found.kind, found.count, found.subject) == ("limit:max_calls_per_tool", 2, "search")


def test_tokens_are_limited() -> None:
    """Input and output together; once they are used up, no call fits."""
    watch = Watch()
    watch.answered(ModelCallOutcome(CENT, 60, 39))
    assert watch.begin(ExecutionLimits(max_total_tokens=100)) == []
    watch.answered(ModelCallOutcome(CENT, 1, 0))
    (found,) = watch.begin(ExecutionLimits(max_total_tokens=100))
    assert (found.kind, found.count, found.cost_picousd) == ("limit:max_total_tokens", 100, 2 * CENT)
    assert "the execution has cost $0.02 so far" in found.message


def test_wall_time_is_limited() -> None:
    """From when the execution was seen first."""
    now = [50.0]
    watch = Watch(clock=lambda: now[0])
    now[0] += 9.9
    assert watch.begin(ExecutionLimits(max_wall_time_s=10)) == []
    now[0] += 0.1
    assert kinds(watch.begin(ExecutionLimits(max_wall_time_s=10))) == [("limit:max_wall_time_s", 10)]


def test_depth_is_limited() -> None:
    """0 allows the outermost agent alone."""
    watch = Watch()
    assert watch.begin(ExecutionLimits(max_depth=0)) == []
    assert kinds(watch.begin(ExecutionLimits(max_depth=0), depth=1)) == [("limit:max_depth", 1)]


def test_nothing_is_limited_without_limits() -> None:
    """Any number of anything."""
    watch = Watch()
    play([tool("get", str(number)) for number in range(200)], watch)
    assert watch.begin(ExecutionLimits(), depth=99) == []


def test_a_busy_tool_is_counted_among_many_others() -> None:
    """Tools past the number that is counted apart do not push a busy one out."""
    watch = Watch()
    for number in range(5 * MAX_TOOLS):
        play([tool("busy", str(number)), tool(f"rare {number}")], watch)
    (found,) = watch.begin(ExecutionLimits(max_calls_per_tool={"busy": 100}))
    assert found.count == 5 * MAX_TOOLS


# Memory, threads, forks


def watched() -> Watch:
    """Return a watch that may have four conversations."""
    return Watches(max_conversations=4).of("a")


def grown(watch: Watch, calls: range) -> None:
    """Play calls of every kind, none like another, in three conversations that go on and many short ones."""
    for number in calls:
        conversation = number % 3 if number % 10 else number
        call = ModelCallOutcome(CENT, 9, 9, f"m{number}", number % 5 == 0, number % 3 == 0, conversation)
        watch.answered(call)
        text = " ".join(f"{number}-{word}" for word in range(20))
        made = tool(f"tool {number}", text, failed=number % 4 == 0, result=text)
        watch.stepped(Step((made,), number % 6 == 0, number, number, conversation))


def test_memory_does_not_grow_with_calls() -> None:
    """A watch is as large after thousands of calls as after hundreds."""
    watch = watched()
    grown(watch, range(1_000))
    tracemalloc.start()
    try:
        grown(watch, range(1_000, 1_500))
        before, _ = tracemalloc.get_traced_memory()
        grown(watch, range(1_500, 6_000))
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after < 1.2 * before + 10_000


def test_quiet_executions_are_forgotten_first() -> None:
    """The registry is bounded, and says how many it dropped."""
    watches = Watches(max_executions=2)
    first = watches.of("a")
    watches.of("b")
    assert watches.of("a") is first
    watches.of("c")
    assert len(watches) == 2
    assert watches.forgotten == 1
    assert watches.of("a") is first
    watches.forget("a")
    assert watches.of("a") is not first


def test_quiet_conversations_are_forgotten_first() -> None:
    """They are bounded over all executions, so many sub-agents are as good as many executions."""
    watches = Watches(max_conversations=20)
    for agent in range(20):
        play([tool("visit", "x")] * 2, watches.of("a"), conversation=agent)
    assert kinds(play([tool("visit", "x")], watches.of("a"), conversation=0)) == [(IDENTICAL_CALLS, 3)]
    play([tool("visit", "x")], watches.of("b"), conversation=1)
    assert play([tool("visit", "x")], watches.of("a"), conversation=1) == []


def test_executions_do_not_share_conversations() -> None:
    """The same conversation in two executions is two conversations."""
    watches = Watches()
    play([tool("visit", "x")] * 2, watches.of("a"))
    assert play([tool("visit", "x")], watches.of("b")) == []


def test_threads_lose_no_count() -> None:
    """Calls of many threads are all counted."""
    watches = Watches()

    def work() -> None:
        for number in range(200):
            play([tool("get", str(number))], watches.of("a"))
            watches.of("a").begin(ExecutionLimits())

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    watch = watches.of("a")
    assert (watch.model_calls, watch.tool_calls, watch.cost_picousd) == (1_600, 1_600, 1_600 * CENT)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_fork_while_a_thread_holds_the_locks() -> None:
    """The child goes on: it takes new locks in place of those that nobody there will release."""
    watches = Watches()
    watch: Any = watches.of("a")
    with watches._lock, watch._lock, watch._conversations._lock:
        child = os.fork()
        if child == 0:
            signal.alarm(10)  # ends a child that waits for a lock
            watches.of("a").answered(ModelCallOutcome(CENT))
            os._exit(0 if watches.of("a").cost_picousd == CENT else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_it_needs_no_telemetry() -> None:
    """The module is pure: importing it does not bring OpenTelemetry along."""
    code = "import sys, otel_cost.detectors; print([name for name in sys.modules if 'opentelemetry' in name])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
