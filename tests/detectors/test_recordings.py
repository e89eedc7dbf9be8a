"""On recorded executions the detectors keep quiet about the healthy ones and find the bad ones."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from otel_cost.detectors import DETECTORS, IDENTICAL_CALLS, RETRY_STORM
from tests.detectors.recordings import STORM, Recording, miniswe, precision_and_recall, trail

MAX_FLAGGED_RATIO = 0.01


@pytest.fixture(scope="module")
def shell_agents() -> list[Recording]:
    """Return the executions of miniswe_gemini3."""
    return miniswe()


@pytest.fixture(scope="module")
def web_agents() -> list[Recording]:
    """Return the traces of TRAIL."""
    return trail()


def flagged_ratio(recordings: Sequence[Recording], *detectors: str) -> float:
    """Return the share of executions that any of the detectors flags."""
    assert len(recordings) >= 50, "too few to say anything about one in a hundred"
    return sum(bool(one.kinds().intersection(detectors)) for one in recordings) / len(recordings)


@pytest.mark.parametrize("detector", DETECTORS)
def test_healthy_executions_are_left_alone(shell_agents: list[Recording], detector: str) -> None:
    """Of the executions that did their work, each detector flags one in a hundred at most."""
    healthy = [one for one in shell_agents if one.is_healthy]
    assert flagged_ratio(healthy, detector) <= MAX_FLAGGED_RATIO


def test_all_detectors_together_leave_healthy_executions_alone(
    shell_agents: list[Recording], web_agents: list[Recording]
) -> None:
    """Nor do all of them together, over both recordings."""
    healthy = [one for one in [*shell_agents, *web_agents] if one.is_healthy]
    assert flagged_ratio(healthy, *DETECTORS) <= MAX_FLAGGED_RATIO


def test_every_retry_storm_is_found_at_its_third_reply(shell_agents: list[Recording]) -> None:
    """Three malformed replies in a row are a storm, and its cost is what these three cost."""
    storms = [one for one in shell_agents if one.is_storm]
    assert storms
    for storm in storms:
        first = next(finding for finding in storm.findings() if finding.kind == RETRY_STORM)
        assert first.count == STORM
        assert first.cost_picousd == storm.malformed_cost_picousd(STORM)


def test_only_storms_have_discarded_replies_in_a_row(shell_agents: list[Recording]) -> None:
    """One or two malformed replies are not a storm: nearly every second healthy execution has one."""
    others = [one for one in shell_agents if not one.is_storm]
    for one in others:
        assert not [found for found in one.findings() if "thrown away" in found.message]


def test_identical_calls_are_what_people_call_abuse(web_agents: list[Recording]) -> None:
    """Of the traces of TRAIL that repeat a call, four in five at least are labelled as abuse."""
    precision, recall = precision_and_recall(web_agents)
    assert precision >= 0.8
    assert recall > 0


def test_repeats_counted_by_others_agree(web_agents: list[Recording]) -> None:
    """What is flagged as identical calls is among what the labels count as three calls or more."""
    flagged = {one.name for one in web_agents if IDENTICAL_CALLS in one.kinds()}
    assert flagged
    assert flagged <= {one.name for one in web_agents if one.has_repeats}
