"""Errors that go to another process or into a copy are the same there."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from otel_cost.errors import (
    BackpressureError,
    BudgetExceeded,
    ConfigError,
    OtelCostError,
    ResponseCutError,
    UnknownModelError,
)

EXCEEDED = BudgetExceeded(
    execution_id="run",
    request="POST api.openai.com/v1/chat/completions (gpt-4o)",
    scope="execution:run/inner",
    limit_usd=Decimal("0.15"),
    spent_usd=Decimal("0.1"),
    reserved_usd=Decimal("0.01"),
    asked_usd=Decimal("0.1010"),
    model="gpt-4o",
    last_calls=("gpt-4o $0.100000",),
    top_components=("planner gpt-4o $0.1",),
    retry_after_s=12.5,
)
ERRORS: list[Any] = [
    EXCEEDED,
    BudgetExceeded("the guard failed", execution_id="", request="POST x", kind="guard_failed"),
    OtelCostError("told"),
    ConfigError(["one", "two"]),
    UnknownModelError("m", "openai"),
    BackpressureError("full", retry_after_s=2.0),
    ResponseCutError(EXCEEDED),
]
WAYS: dict[str, Callable[[Any], Any]] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    **{f"pickle {n}": lambda error, n=n: pickle.loads(pickle.dumps(error, n)) for n in (0, 2, 5)},
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_keeps_all_it_tells(error: Any, way: str) -> None:
    """Its type, its message and each of its fields."""
    made = WAYS[way](error)
    assert (type(made), str(made)) == (type(error), str(error))
    assert {name: str(value) for name, value in vars(made).items()} == {
        name: str(value) for name, value in vars(error).items()
    }


def test_a_refusal_stays_exact() -> None:
    """Amounts are decimals on the other side too."""
    made = pickle.loads(pickle.dumps(EXCEEDED))
    assert (made.limit_usd, made.asked_usd, made.retry_after_s) == (Decimal("0.15"), Decimal("0.1010"), 12.5)
