"""Amounts are whole pico-dollars and are written exactly."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_cost.money import to_picousd, usd_text


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (0, "0"),
        (1, "0.000000000001"),
        (270_000_000, "0.00027"),
        (10**12, "1"),
        (-(10**11), "-0.1"),
        (15 * 10**12, "15"),
    ],
)
def test_text_is_exact_and_plain(amount: int, text: str) -> None:
    """No exponent, no trailing zeros, nothing lost."""
    assert usd_text(amount) == text


@given(st.integers(min_value=-(10**24), max_value=10**24))
def test_text_reads_back(amount: int) -> None:
    """What is written is what was meant."""
    assert to_picousd(Decimal(usd_text(amount))) == amount


def test_half_a_pico_dollar_rounds_up() -> None:
    """Rounding is half up, once."""
    assert to_picousd(Decimal("0.0000000000005")) == 1
    assert to_picousd(Decimal("0.0000000000004999")) == 0
