"""Amounts of money as whole pico-dollars (1e-12 USD), and how they are written down."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal

PICO = 10**12
"""Pico-USD in a dollar. A cost is a whole number of them, so sums lose nothing."""


def to_picousd(amount: Decimal) -> int:
    """Return an amount of USD as whole pico-dollars, rounded half up."""
    return int((amount * PICO).to_integral_value(ROUND_HALF_UP))


def usd_text(picousd: int) -> str:
    """Return the exact amount in USD as plain decimal digits: `0.004596`."""
    sign, amount = ("-", -picousd) if picousd < 0 else ("", picousd)
    whole, rest = divmod(amount, PICO)
    return f"{sign}{whole}.{rest:012d}".rstrip("0").rstrip(".")
