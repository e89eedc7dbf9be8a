"""Rates: what one unit of each usage bucket costs and when, as integers that lose nothing."""

from __future__ import annotations

from bisect import bisect_right
from collections import ChainMap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from functools import cached_property, lru_cache, partial
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

SECONDS_PER_HOUR = 3600

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

_ATTO_EXPONENTS = {"per_mtok": 12, "per_mchar": 12, "per_kcount": 15, "per_kpage": 15, "each": 18}
_EXPONENTS = {
    key: next((exponent for suffix, exponent in _ATTO_EXPONENTS.items() if key.endswith(suffix)), None)
    for key in RATE_KEYS
}

Rates = Mapping[str, tuple[tuple[int, int], ...]]
"""Rates by bucket: steps of (more input tokens than, atto-USD per unit), the first one at 0."""


@lru_cache(maxsize=4096)
def parse_rates(text: str) -> Rates:
    """Return the rates of the snapshot's notation: `input_usd_per_mtok=3|200000:6 output_usd_per_mtok=15`."""
    rates: dict[str, tuple[tuple[int, int], ...]] = {}
    for item in text.split():
        key, _, steps = item.partition("=")
        base, *tiers = steps.split("|")
        made = [(0, atto_usd(key, base))]
        for tier in tiers:
            start, _, usd = tier.partition(":")
            made.append((int(start), atto_usd(key, usd)))
        rates[RATE_KEYS[key]] = tuple(made)
    return rates


def atto_usd(rate_key: str, usd: str) -> int:
    """Return a rate as whole atto-USD per unit; the unit is in the key, as in `input_usd_per_mtok`.

    A rate finer than an atto-USD per unit, as one per hour can be, is rounded half up.
    """
    exponent = _EXPONENTS[rate_key]
    whole, _, fraction = usd.partition(".")
    digits = whole + fraction
    if exponent is None or len(fraction) > exponent or not digits.isdecimal():
        return _rounded_atto_usd(rate_key, usd)
    return int(digits.ljust(len(digits) + exponent - len(fraction), "0"))


def _rounded_atto_usd(rate_key: str, usd: str) -> int:
    exponent = _EXPONENTS[rate_key]
    scale = SECONDS_PER_HOUR if exponent is None else 10 ** (18 - exponent)
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


@dataclass(frozen=True, slots=True)
class Terms:
    """What holds for all rates of an entry: the customer's discount, the book's version, a caveat."""

    discount_ratio: Decimal = Decimal(0)
    version: str = ""
    caveat: str = ""


STANDARD_TERMS = Terms()


@dataclass(eq=False)
class Card:
    """The rates of one model that hold at one time for one service tier, ready to multiply.

    Attributes:
        own: The rates that are published; other buckets take theirs from these.
        estimated: Why these rates are not the model's own, or an empty text.
        plain: (more input tokens than, rates of `PLAIN_BUCKETS`, the request's fee), highest threshold first;
            empty where one of them has no rate, or the amount needs a second look (a discount, an estimate).
    """

    entry: Entry
    own: Rates
    terms: Terms
    estimated: str
    plain: tuple[tuple[int, tuple[int, ...], int], ...]

    @property
    def version(self) -> str:
        """The price book that the rates are from."""
        return self.terms.version

    @cached_property
    def known(self) -> tuple[str, ...]:
        """Buckets that have a rate."""
        return tuple(bucket for bucket in BUCKETS if _effective(self.own, bucket, 0) is not None)

    @cached_property
    def unpriced_buckets(self) -> tuple[str, ...]:
        """Buckets that have none: using one leaves the amount incomplete."""
        return tuple(bucket for bucket in BUCKETS if bucket not in self.known)

    @cached_property
    def amounts(self) -> Callable[[Usage], tuple[int, ...]]:
        """What takes the units of the buckets that have a rate out of usage."""
        return _getter(self.known)

    @cached_property
    def leftovers(self) -> Callable[[Usage], tuple[int, ...]]:
        """What takes the units of the buckets that have none out of usage."""
        return _getter(self.unpriced_buckets)

    @cached_property
    def factors(self) -> tuple[tuple[int, tuple[int, ...], int], ...]:
        """As `plain`, for the buckets that have a rate."""
        return _factors(self.own, self.known)

    @cached_property
    def thresholds(self) -> tuple[int, ...]:
        """More input tokens than which other rates hold, highest first; the last is 0."""
        return _thresholds(self.own)

    def rates(self, input_tokens: int) -> dict[str, int | None]:
        """Return the atto-USD of each of `PRICED_UNITS` for a request with so much input in total."""
        start = next(start for start in self.thresholds if input_tokens > start or not start)
        return {unit: _effective(self.own, unit, start) for unit in PRICED_UNITS}


def _getter(buckets: Sequence[str]) -> Callable[[Usage], tuple[int, ...]]:
    if len(buckets) > 1:
        return attrgetter(*buckets)
    return lambda usage: tuple(getattr(usage, bucket) for bucket in buckets)


def make_card(entry: Entry, own: Rates, terms: Terms = STANDARD_TERMS, estimated: str = "") -> Card:
    """Compile rates: every bucket gets its own, or that of the most specific bucket around it, or none."""
    estimated = estimated or terms.caveat
    is_plain = not estimated and not terms.discount_ratio
    return Card(entry, own, terms, estimated, _plain_factors(own) if is_plain else ())


def _plain_factors(own: Rates) -> tuple[tuple[int, tuple[int, ...], int], ...]:
    if "input_tokens" not in own or "output_tokens" not in own:
        return ()
    if any(len(steps) > 1 for steps in own.values()):
        return _factors(own, PLAIN_BUCKETS)
    fresh, output = own["input_tokens"], own["output_tokens"]
    write = own.get("cache_write_tokens", fresh)
    found = (
        fresh,
        own.get("cache_read_tokens", fresh),
        write,
        own.get("cache_write_1h_tokens", write),
        output,
        own.get("reasoning_tokens", output),
    )
    fee = own[REQUESTS][0][1] if REQUESTS in own else 0
    return ((0, tuple(steps[0][1] for steps in found), fee),)


def _factors(own: Rates, buckets: Sequence[str]) -> tuple[tuple[int, tuple[int, ...], int], ...]:
    made = []
    for start in _thresholds(own):
        rates = tuple(_effective(own, bucket, start) or 0 for bucket in buckets)
        made.append((start, rates, _effective(own, REQUESTS, start) or 0))
    return tuple(made)


def _thresholds(own: Rates) -> tuple[int, ...]:
    return tuple(sorted({start for steps in own.values() for start, _ in steps} or {0}, reverse=True))


def _effective(own: Rates, unit: str, start: int) -> int | None:
    steps = own.get(unit)
    if steps is None:
        steps = next((own[parent] for parent in PARENTS.get(unit, ()) if parent in own), None)
        if steps is None:
            return None
    rate = steps[0][1]
    for threshold, above in steps[1:]:
        if threshold <= start:
            rate = above
    return rate


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
    terms: Terms = STANDARD_TERMS,
    uplift: str | None = None,
) -> Schedule:
    """Compile the rates of a model for a service tier, as text in lower case or empty for the standard one.

    Where the tier has no rates of its own, the list price times `multiplier` holds, and where there is none
    either, the list price, marked as an estimate. Rates for tokens are `uplift` times these.
    """
    variants = [(when, rates) for tier, when, rates in entry.variants if tier == service_tier]
    days = sorted({when for when, _ in (*entry.prices, *variants) if isinstance(when, str)})
    periods = []
    for day in ("", *days):
        changes = [parse_rates(rates) for when, rates in variants if _begun(when, day)]
        make = partial(
            _tier_card,
            entry,
            changes=changes,
            tier=service_tier,
            multiplier=multiplier,
            terms=terms,
            uplift=uplift,
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
    entry: Entry,
    text: str,
    *,
    changes: Sequence[Rates],
    tier: str,
    multiplier: str | None,
    terms: Terms,
    uplift: str | None,
) -> Card:
    rates, estimated = parse_rates(text), ""
    if tier not in STANDARD_TIERS:
        if changes:
            # The first variant that names a rate wins, as in genai-prices.
            rates = {**rates, **ChainMap(*map(dict, changes))}
        elif multiplier is not None:
            rates = _multiplied(rates, Decimal(multiplier))
        else:
            estimated = f"no rates known for service tier {tier!r}: list price"
    if uplift is not None:
        rates = _multiplied(rates, Decimal(uplift))
    return make_card(entry, rates, terms, estimated)


def _multiplied(rates: Rates, multiplier: Decimal) -> Rates:
    return {
        unit: tuple((start, int(atto * multiplier)) for start, atto in steps)
        if unit in TOKEN_UNITS
        else steps
        for unit, steps in rates.items()
    }
