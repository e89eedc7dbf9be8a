"""Pricing: what a model call cost, from its usage and the rates in force when it was made."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from operator import mul
from pathlib import Path
from typing import Any, Literal

from otel_cost.catalogue import Catalogue, Entry, PatternRow
from otel_cost.errors import UnknownModelError
from otel_cost.rates import PRICED_UNITS, STANDARD_TIERS, Card, Schedule, make_schedule
from otel_cost.usage import Usage

SNAPSHOT = Path(__file__).parent / "data" / "catalogue.json"

PriceStatus = Literal["provided", "priced", "estimated", "unpriced"]

CACHED_SCHEDULES = 4096
"""Compiled (provider, model, service tier) triples kept: far more than one service uses, some megabytes."""
LONGEST_NAME = 512
"""Characters of a model or provider name that are looked at; longer ones are no names."""

_ATTO_PER_PICO = 10**6


@dataclass(frozen=True, slots=True)
class Charge:
    """What a call cost, how that is known, and from which rates.

    Attributes:
        status: `provided` (the provider billed it), `priced` (list price times usage), `estimated` (a weaker
            source), `unpriced` (no amount, which is not the same as free).
        cost_picousd: Whole pico-USD, rounded half up once, after the customer's discount; None when unpriced.
        list_cost_picousd: The same before the discount.
        reason: Why the charge is estimated or unpriced, in a few words.
        missing: Buckets that were used and have no rate: the amount leaves them out.
    """

    status: PriceStatus
    cost_picousd: int | None
    list_cost_picousd: int | None = None
    reason: str = ""
    missing: tuple[str, ...] = ()
    usage: Usage | None = None
    card: Card | None = None
    version: str = ""

    @property
    def cost_usd(self) -> Decimal | None:
        """The cost in USD, exact."""
        return _usd(self.cost_picousd)

    @property
    def list_cost_usd(self) -> Decimal | None:
        """The cost at list price in USD, exact."""
        return _usd(self.list_cost_picousd)

    @property
    def provider(self) -> str:
        """The provider of the price entry, empty without one."""
        return self.card.entry.provider if self.card else ""

    @property
    def model(self) -> str:
        """The model of the price entry, empty without one."""
        return self.card.entry.model if self.card else ""

    @property
    def source(self) -> str:
        """Where the rates are published."""
        return self.card.entry.source if self.card else ""

    @property
    def source_date(self) -> str:
        """When the rates were read there, `YYYY-MM-DD`, where it is known."""
        return self.card.entry.source_date if self.card else ""

    @property
    def lines(self) -> tuple[tuple[str, int, int], ...]:
        """(bucket, units, atto-USD per unit) of every priced bucket that was used."""
        if self.card is None or self.usage is None:
            return ()
        rates = self.card.rates(self.usage.total_input_tokens)
        used = (
            (unit, getattr(self.usage, unit, 1), rate) for unit, rate in rates.items() if rate is not None
        )
        return tuple(line for line in used if line[1] and line[2] is not None)


def _usd(picousd: int | None) -> Decimal | None:
    return None if picousd is None else Decimal(picousd).scaleb(-12)


class PriceBook:
    """Dated rates of every known model; safe to share between threads."""

    def __init__(self, catalogue: Catalogue, version: str, multipliers: dict[str, dict[str, str]]) -> None:
        self.version = version
        self._catalogue = catalogue
        self._multipliers = multipliers
        self._schedules: dict[tuple[str | None, str, str | None], Schedule | None] = {}

    @classmethod
    def load(cls, paths: Sequence[str | Path] = ()) -> PriceBook:
        """Return the book that ships with the package, with price files laid over it; later files win."""
        made = json.loads(SNAPSHOT.read_bytes())
        multipliers = {
            name: one["service_tiers"] for name, one in made["providers"].items() if "service_tiers" in one
        }
        return cls(Catalogue(made["providers"]), f"genai-prices {made['genai_prices']}", multipliers)

    def price(
        self,
        usage: Usage,
        *,
        model: str,
        provider: str | None = None,
        at: datetime | int,
        service_tier: str | None = None,
    ) -> Charge:
        """Estimate what a call cost at list price.

        Args:
            usage: Disjoint buckets; cached input is already taken out of input.
            model: The model as the span names it: dated, with a gateway's prefix, as an ARN.
            provider: The provider as the span names it; None or a framework's name looks at the model alone.
            at: When the call started: a datetime (naive means UTC) or Unix time in nanoseconds.
            service_tier: As the provider reports it: `batch`, `flex`, `priority`, `default`.

        Raises:
            UnknownModelError: No entry matches; the call is unpriced, which is not the same as free.
        """
        try:
            schedule = self._schedules[provider, model, service_tier]
        except KeyError:
            schedule = self._compile(provider, model, service_tier)
        if schedule is None:
            raise UnknownModelError(model, provider)
        card = schedule.only or schedule.at(at)
        return self._charge(card, usage)

    def _charge(self, card: Card, usage: Usage) -> Charge:
        factors = card.factors[-1]
        if len(card.factors) > 1:
            total = usage.total_input_tokens
            factors = next(factors for factors in card.factors if total > factors[0] or not factors[0])
        _, rates, fee = factors
        amounts = card.priced(usage)
        picousd = (sum(map(mul, amounts, rates)) + fee + _ATTO_PER_PICO // 2) // _ATTO_PER_PICO
        if card.unpriced is not None and any(card.unpriced(usage)):
            return self._partial(card, usage, picousd if any(amounts) else None)
        if not rates:
            return Charge("unpriced", None, None, "no rates are published", (), usage, card, self.version)
        status: PriceStatus = "estimated" if card.estimated else "priced"
        return Charge(status, picousd, picousd, card.estimated, (), usage, card, self.version)

    def _partial(self, card: Card, usage: Usage, picousd: int | None) -> Charge:
        missing = tuple(bucket for bucket in card.unpriced_buckets if getattr(usage, bucket))
        reason = f"no rate for {', '.join(missing)}"
        status: PriceStatus = "unpriced" if picousd is None else "estimated"
        return Charge(status, picousd, picousd, reason, missing, usage, card, self.version)

    def _compile(self, provider: str | None, model: str, service_tier: str | None) -> Schedule | None:
        entry = self.resolve(model, provider)
        schedule = self._schedule(entry, normal_tier(service_tier)) if entry else None
        if len(self._schedules) >= CACHED_SCHEDULES:
            self._schedules.clear()
        if len(model) <= LONGEST_NAME and len(service_tier or "") <= LONGEST_NAME:
            self._schedules[provider, model, service_tier] = schedule
        return schedule

    def _schedule(self, entry: Entry, tier: str) -> Schedule:
        return make_schedule(entry, tier, self._multipliers.get(entry.provider, {}).get(tier))

    def resolve(self, model: str, provider: str | None = None) -> Entry | None:
        """Return the price entry that a model and provider mean, as a span names them, or None."""
        if len(model) > LONGEST_NAME or len(provider or "") > LONGEST_NAME:
            return None
        return self._catalogue.resolve(model, provider)

    def entries(self) -> Iterator[Entry]:
        """Yield every price entry."""
        return self._catalogue.entries()

    def pattern_rows(self) -> Iterator[PatternRow]:
        """Yield the rules of `resolve` as ordered regular expressions over `provider/model` in lower case."""
        return self._catalogue.pattern_rows()

    def price_rows(self) -> Iterator[dict[str, Any]]:
        """Yield the rates for a database; see `price_rows.rows`."""
        from otel_cost.price_rows import rows

        for entry in self.entries():
            for tier in sorted(
                {"", *(variant[0] for variant in entry.variants), *self._multipliers.get(entry.provider, ())}
            ):
                yield from rows(entry, tier, self._schedule(entry, tier), self.version)


def normal_tier(service_tier: str | None) -> str:
    """Return a service tier in lower case, empty where it means the list price."""
    tier = (service_tier or "").strip().lower()
    return "" if tier in STANDARD_TIERS else tier
