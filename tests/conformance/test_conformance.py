"""The rules of what counts once, held against the project's own backends."""

from __future__ import annotations

from functools import cache

import pytest

from otel_cost.pricing import PriceBook
from tests.conformance import backends, suite

CASES = {case.name: case for case in suite.load()}


@cache
def _book() -> PriceBook:
    return PriceBook.load()


@pytest.mark.parametrize("name", sorted(CASES))
def test_over_whole_sets_of_spans(name: str) -> None:
    """Given every span in any order and some of them twice, each call counts once."""
    case = CASES[name]
    assert suite.differences(case, backends.in_python(case, _book())) == []


@pytest.mark.parametrize("name", sorted(name for name, case in CASES.items() if not case.live_differs))
def test_live_in_a_process(name: str) -> None:
    """Deciding one span at a time, as spans end, gives the same totals."""
    case = CASES[name]
    assert suite.differences(case, backends.live(case, _book())) == []


def test_cases_that_differ_live_say_why() -> None:
    """Only cases whose later spans cannot be foreseen are exempt from the live check."""
    exempt = {name for name, case in CASES.items() if case.live_differs}
    assert exempt == {"inner_span_without_usage", "parents_in_a_circle"}
