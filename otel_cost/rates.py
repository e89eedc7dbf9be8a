"""Rates: what one unit of each usage bucket costs and when, as integers that lose nothing."""

from __future__ import annotations

from bisect import bisect_right
from collections import ChainMap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from otel_cost.usage import BUCKETS, INPUT_BUCKETS, OUTPUT_BUCKETS, Usage

if TYPE_CHECKING:
    from otel_cost.catalogue import Entry

ATTO = 10**18
"""Atto-USD in a dollar: a rate is a whole number of them per unit."""

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
REQUESTS = "requests"
"""The fee that a provider takes for each request, whatever it used."""
PRICED_UNITS = (*BUCKETS, REQUESTS)

STANDARD_TIERS = frozenset(
    ("", "default", "standard", "standard_only", "on_demand", "on-demand", "ondemand", "auto", "none")
)
"""Service tiers that mean the list price."""

_SCALES = {
    "per_mtok": 10**6,
    "per_mchar": 10**6,
    "per_kcount": 10**3,
    "per_kpage": 10**3,
    "per_hour": 3600,
    "each": 1,
}
_SPECIAL_KEYS = {
    "images": "images_usd_each",
    "audio_seconds": "audio_usd_per_hour",
    "characters": "characters_usd_per_mchar",
    "pages": "pages_usd_per_kpage",
}


def _rate_key(bucket: str) -> str:
    if bucket.endswith("_tokens"):
        return f"{bucket.removesuffix('_tokens')}_usd_per_mtok"
    return _SPECIAL_KEYS.get(bucket, f"{bucket}_usd_per_kcount")


RATE_KEYS = {_rate_key(bucket): bucket for bucket in PRICED_UNITS}
"""Names of rates in price files, with the unit in the name, and the bucket that each one prices."""

PARENTS: dict[str, tuple[str, ...]] = {
    "cache_read_tokens": ("input_tokens",),
    "cache_write_tokens": ("input_tokens",),
    "cache_write_1h_tokens": ("cache_write_tokens", "input_tokens"),
    "tool_input_tokens": ("input_tokens",),
    "audio_input_tokens": ("input_tokens",),
    "audio_cache_read_tokens": ("cache_read_tokens", "audio_input_tokens", "input_tokens"),
    "image_input_tokens": ("input_tokens",),
    "image_cache_read_tokens": ("cache_read_tokens", "image_input_tokens", "input_tokens"),
    "video_input_tokens": ("input_tokens",),
    "video_cache_read_tokens": ("cache_read_tokens", "video_input_tokens", "input_tokens"),
    "reasoning_tokens": ("output_tokens",),
    "citation_tokens": ("output_tokens",),
    "audio_output_tokens": ("output_tokens",),
    "image_output_tokens": ("output_tokens",),
}
"""Where a bucket without a rate of its own takes one from: the most specific bucket that contains it."""

TOKEN_UNITS = frozenset(INPUT_BUCKETS + OUTPUT_BUCKETS)
TOKEN_RATE_KEYS = frozenset(key for key, unit in RATE_KEYS.items() if unit in TOKEN_UNITS)
"""Rates that a service tier's multiplier changes: fees for searches and requests stay."""

Rates = Mapping[str, Sequence[tuple[int, str]]]
"""USD rates by key of `RATE_KEYS`: steps of (more input tokens than, USD), the first one at 0."""


def parse_rates(text: str) -> dict[str, list[tuple[int, str]]]:
    """Return the rates of the snapshot's notation: `input_usd_per_mtok=3|200000:6 output_usd_per_mtok=15`."""
    rates = {}
    for item in text.split():
        key, _, steps = item.partition("=")
        base, *tiers = steps.split("|")
        rates[key] = [(0, base), *((int(start), usd) for start, usd in (tier.split(":") for tier in tiers))]
    return rates


def atto_usd(rate_key: str, usd: str) -> int:
    """Return a rate as whole atto-USD per unit; the unit is in the key, as in `input_usd_per_mtok`.

    A rate per hour that does not divide into seconds is rounded half up at the last atto-USD.
    """
    scale = next(scale for suffix, scale in _SCALES.items() if rate_key.endswith(suffix))
    numerator, denominator = Decimal(usd).as_integer_ratio()
    return (2 * numerator * ATTO + denominator * scale) // (2 * denominator * scale)


PLAIN_BUCKETS = (
    "input_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "cache_write_1h_tokens",
    "output_tokens",
    "reasoning_tokens",
)
"""What all but a few calls consist of, so pricing looks at the other buckets only when one is used."""


@dataclass(frozen=True, slots=True, eq=False)
class Card:
    """The rates of one model that hold at one time for one service tier, ready to multiply.

    Attributes:
        steps: (more input tokens than, atto-USD of each of `PRICED_UNITS` or None), highest threshold first.
        estimated: Why these rates are not the model's own, or an empty text.
        discount_ratio: What the customer pays less than list price, from 0 to 1.
        version: The price book that the rates are from.
        factors: As `steps`, for the priced buckets alone, and the fee of the request.
        plain: As `factors`, for `PLAIN_BUCKETS`; empty where one of them has no rate, or the amount needs
            a second look (a discount, an estimate).
    """

    entry: Entry
    steps: tuple[tuple[int, tuple[int | None, ...]], ...]
    estimated: str
    discount_ratio: Decimal
    version: str
    priced: Callable[[Usage], tuple[int, ...]]
    unpriced: Callable[[Usage], tuple[int, ...]]
    unpriced_buckets: tuple[str, ...]
    factors: tuple[tuple[int, tuple[int, ...], int], ...]
    plain: tuple[tuple[int, tuple[int, ...], int], ...]

    def rates(self, input_tokens: int) -> dict[str, int | None]:
        """Return the atto-USD of each bucket for a request with this much input, cached input included."""
        rates = next(rates for start, rates in self.steps if input_tokens > start or not start)
        return dict(zip(PRICED_UNITS, rates, strict=True))


@dataclass(frozen=True, slots=True)
class Terms:
    """What holds for all rates of an entry: the customer's discount, the book's version, a caveat."""

    discount_ratio: Decimal = Decimal(0)
    version: str = ""
    caveat: str = ""


def make_card(entry: Entry, rates: Rates, terms: Terms = Terms(), estimated: str = "") -> Card:
    """Compile rates: every bucket gets its own, or that of the most specific bucket around it, or none."""
    own = {
        RATE_KEYS[key]: [(start, atto_usd(key, usd)) for start, usd in steps] for key, steps in rates.items()
    }
    starts = sorted({start for steps in own.values() for start, _ in steps} or {0}, reverse=True)
    steps = tuple((start, tuple(_effective(own, unit, start) for unit in PRICED_UNITS)) for start in starts)
    known = tuple(bucket for bucket, rate in zip(BUCKETS, steps[-1][1], strict=False) if rate is not None)
    unknown = tuple(bucket for bucket in BUCKETS if bucket not in known)
    is_plain = not (estimated or terms.caveat or terms.discount_ratio)
    return Card(
        entry=entry,
        steps=steps,
        estimated=estimated or terms.caveat,
        discount_ratio=terms.discount_ratio,
        version=terms.version,
        priced=_getter(known),
        unpriced=_getter(unknown),
        unpriced_buckets=unknown,
        factors=_factors(steps, known),
        plain=_factors(steps, PLAIN_BUCKETS) if is_plain and set(PLAIN_BUCKETS) <= set(known) else (),
    )


def _factors(
    steps: Iterable[tuple[int, tuple[int | None, ...]]], buckets: Sequence[str]
) -> tuple[tuple[int, tuple[int, ...], int], ...]:
    made = []
    for start, rates in steps:
        named = dict(zip(PRICED_UNITS, rates, strict=True))
        made.append((start, tuple(named[bucket] or 0 for bucket in buckets), named[REQUESTS] or 0))
    return tuple(made)


def _effective(own: Mapping[str, list[tuple[int, int]]], unit: str, start: int) -> int | None:
    for candidate in (unit, *PARENTS.get(unit, ())):
        if candidate in own:
            return [rate for threshold, rate in own[candidate] if threshold <= start][-1]
    return None


def _getter(buckets: Sequence[str]) -> Callable[[Usage], tuple[int, ...]]:
    if len(buckets) > 1:
        return attrgetter(*buckets)
    return lambda usage: tuple(getattr(usage, bucket) for bucket in buckets)


@dataclass(frozen=True, slots=True)
class Period:
    """Rates from a moment on: `card`, but another one inside a daily window.

    Attributes:
        start_ns: Unix time in nanoseconds, or None for "always before".
        windows: (second of the UTC day it begins, second it ends, rates); the first that holds wins.
    """

    start_ns: int | None
    card: Card
    windows: tuple[tuple[int, int, Card], ...] = ()

    @property
    def since(self) -> datetime:
        """When the period begins, UTC; the Unix epoch for "always before"."""
        return EPOCH + timedelta(microseconds=(self.start_ns or 0) // 1000)

    def at(self, ns: int) -> Card:
        """Return the rates at a moment of the period."""
        second = ns // 1_000_000_000 % 86400
        for begin, end, card in self.windows:
            if begin <= second < end if begin <= end else second >= begin or second < end:
                return card
        return self.card


@dataclass(frozen=True, slots=True)
class Schedule:
    """The rates of one model and service tier over time."""

    periods: tuple[Period, ...]
    starts: tuple[int, ...]
    only: Card | None
    """The rates, where they never change."""

    def at(self, moment: datetime | int) -> Card:
        """Return the rates in force at a moment: a datetime (naive means UTC) or Unix time in nanoseconds."""
        ns = moment if isinstance(moment, int) else unix_ns(moment)
        period = self.periods[bisect_right(self.starts, ns)]
        return period.at(ns) if period.windows else period.card


def unix_ns(moment: datetime) -> int:
    """Return a moment as Unix time in nanoseconds; a naive one is UTC."""
    since = (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)) - EPOCH
    return (since // timedelta(microseconds=1)) * 1000


def make_schedule(
    entry: Entry,
    service_tier: str = "",
    multiplier: str | None = None,
    terms: Terms = Terms(),
) -> Schedule:
    """Compile the rates of a model for a service tier, as text in lower case or empty for the standard one.

    Where the tier has no rates of its own, the list price times `multiplier` holds, and where there is none
    either, the list price, marked as an estimate.
    """
    variants = [(when, rates) for tier, when, rates in entry.variants if tier == service_tier]
    days = sorted({when for when, _ in (*entry.prices, *variants) if isinstance(when, str)})
    periods = []
    for day in ("", *days):
        changes = [parse_rates(rates) for when, rates in variants if _begun(when, day)]
        make = partial(
            _tier_card, entry, changes=changes, tier=service_tier, multiplier=multiplier, terms=terms
        )
        periods.append(_period(entry, day, make))
    only = periods[0].card if len(periods) == 1 and not periods[0].windows else None
    return Schedule(tuple(periods), tuple(period.start_ns or 0 for period in periods[1:]), only)


def _begun(when: Any, day: str) -> bool:
    return when is None or (isinstance(when, str) and when <= day)


def _period(entry: Entry, day: str, make: Callable[[str], Card]) -> Period:
    windows = []
    default = entry.prices[0][1]
    for when, rates in reversed(entry.prices):
        if _begun(when, day):
            default = rates
            break
        if not isinstance(when, str):
            windows.append((_second(when[0]), _second(when[1]), make(rates)))
    start = unix_ns(datetime.fromisoformat(day)) if day else None
    return Period(start, make(default), tuple(windows))


def _second(clock: str) -> int:
    hours, minutes = clock.split(":")
    return int(hours) * 3600 + int(minutes) * 60


def _tier_card(
    entry: Entry, text: str, *, changes: Sequence[Rates], tier: str, multiplier: str | None, terms: Terms
) -> Card:
    rates: Rates = parse_rates(text)
    if tier in STANDARD_TIERS:
        return make_card(entry, rates, terms)
    if changes:
        # The first variant that names a rate wins, as in genai-prices.
        return make_card(entry, {**rates, **ChainMap(*map(dict, changes))}, terms)
    if multiplier is not None:
        return make_card(entry, dict(_multiplied(rates, multiplier)), terms)
    return make_card(entry, rates, terms, f"no rates known for service tier {tier!r}: list price")


def _multiplied(rates: Rates, multiplier: str) -> Iterator[tuple[str, Sequence[tuple[int, str]]]]:
    for key, steps in rates.items():
        if key in TOKEN_RATE_KEYS:
            steps = [(start, str(Decimal(usd) * Decimal(multiplier))) for start, usd in steps]
        yield key, steps
