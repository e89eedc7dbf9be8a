"""Pricing: what a model call cost, from its usage and the rates in force when it was made."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from operator import mul
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from otel_cost.catalogue import Catalogue, Entry, PatternRow
from otel_cost.errors import UnknownModelError
from otel_cost.money import to_picousd
from otel_cost.rates import STANDARD_TIERS, Card, Schedule, Terms, make_schedule
from otel_cost.usage import REGIONAL, Usage, read_amount

if TYPE_CHECKING:
    from otel_cost.price_files import Discount, ToolPrice

SNAPSHOT = Path(__file__).parent / "data" / "catalogue.json"
SNAPSHOT_BEGINS = b'{"version": '

PriceStatus = Literal["provided", "priced", "estimated", "unpriced"]

CACHED_SCHEDULES = 4096
"""Compiled (provider, model, service tier) triples kept: far more than one service uses, some megabytes."""
LONGEST_NAME = 512
"""Characters of a model or provider name that are looked at; longer ones are no names."""

Multipliers = Mapping[tuple[str, str, str], str]
"""What a service tier costs, times the list price, by provider, model (empty for all) and tier."""

SUMMED = "the sum of several calls: base rates, though some may have been large enough for higher ones"

_ATTO_PER_PICO = 10**6
_HALF = _ATTO_PER_PICO // 2


class Charge(NamedTuple):
    """What a call cost, how that is known, and from which rates.

    Attributes:
        status: `provided` (the provider billed it), `priced` (list price times usage), `estimated` (a weaker
            source), `unpriced` (no amount, which is not the same as free).
        cost_picousd: Whole pico-USD, rounded half up once, after the customer's discount; None when unpriced.
        list_cost_picousd: The same before the discount.
        reason: Why the charge is estimated, unpriced or for a call that failed, in a few words.
        usage: What was priced.
        card: The rates it was priced with.
    """

    status: PriceStatus
    cost_picousd: int | None
    list_cost_picousd: int | None = None
    reason: str = ""
    usage: Usage | None = None
    card: Card | ToolCard | None = None

    @classmethod
    def provided(cls, billed_usd: Decimal, listed: Charge | None = None) -> Charge:
        """Return the charge of a call whose provider said what it billed, beside the list price if known."""
        cost = to_picousd(billed_usd)
        if listed is None:
            return cls("provided", cost)
        return cls("provided", cost, listed.list_cost_picousd, "", listed.usage, listed.card)

    @property
    def cost_usd(self) -> Decimal | None:
        """The cost in USD, exact."""
        return _usd(self.cost_picousd)

    @property
    def list_cost_usd(self) -> Decimal | None:
        """The cost at list price in USD, exact."""
        return _usd(self.list_cost_picousd)

    @property
    def missing(self) -> tuple[str, ...]:
        """Buckets that were used and have no rate: the amount leaves them out."""
        if not isinstance(self.card, Card) or self.usage is None:
            return ()
        return tuple(bucket for bucket in self.card.unpriced_buckets if getattr(self.usage, bucket))

    @property
    def provider(self) -> str:
        """The provider of the price entry, empty without one."""
        return self.card.entry.provider if self.card else ""

    @property
    def model(self) -> str:
        """The model of the price entry, empty without one."""
        card = self.card
        return card.entry.model if card else ""

    @property
    def source(self) -> str:
        """Where the rates are published."""
        return self.card.entry.source if self.card else ""

    @property
    def source_date(self) -> str:
        """When the rates were read there, `YYYY-MM-DD`, where it is known."""
        return self.card.entry.source_date if self.card else ""

    @property
    def version(self) -> str:
        """The price book that the rates are from."""
        return self.card.version if self.card else ""

    @property
    def lines(self) -> tuple[tuple[str, int, int], ...]:
        """(bucket, units, atto-USD per unit) of every priced bucket that was used, at list price."""
        if not isinstance(self.card, Card) or self.usage is None:
            return ()
        rates = self.card.rates(0 if self.reason == SUMMED else self.usage.total_input_tokens)
        used = ((unit, getattr(self.usage, unit, 1), rate) for unit, rate in rates.items())
        return tuple((unit, units, rate) for unit, units, rate in used if units and rate is not None)


@dataclass(frozen=True, slots=True, eq=False)
class ToolCard:
    """What a tool of the user's own price file costs."""

    entry: Entry
    version: str
    estimated: str = ""


def _usd(picousd: int | None) -> Decimal | None:
    return None if picousd is None else Decimal(picousd).scaleb(-12)


_new = tuple.__new__


class PriceBook:
    """Dated rates of every known model; safe to share between threads."""

    def __init__(
        self,
        catalogue: Catalogue,
        version: str,
        *,
        multipliers: Multipliers | None = None,
        discounts: Sequence[Discount] = (),
        tools: Mapping[str, ToolPrice] | None = None,
    ) -> None:
        self.version = version
        self._catalogue = catalogue
        self._multipliers = multipliers or {}
        self._discounts = discounts
        self._tools = tools or {}
        self._schedules: dict[tuple[str | None, str, str | None], Schedule | None] = {}

    @classmethod
    def load(cls, paths: Sequence[str | Path] = (), *, snapshot: Path = SNAPSHOT) -> PriceBook:
        """Return the book that ships with the package, with price files laid over it; later files win.

        A file that `otel-cost prices update --output` wrote takes the place of the shipped catalogue.

        Raises:
            ConfigError: Naming every problem of every file, each with its line.
        """
        catalogues = [path for path in paths if _is_snapshot(path)]
        made = json.loads(Path(catalogues[-1] if catalogues else snapshot).read_bytes())
        paths = [path for path in paths if path not in catalogues]
        multipliers = {
            (name, model, tier): multiplier
            for name, provider in made["providers"].items()
            for model, tiers in {
                "": provider.get("service_tiers", {}),
                **provider.get("model_tiers", {}),
            }.items()
            for tier, multiplier in tiers.items()
        }
        if not paths:
            return cls(Catalogue(made["providers"]), made["version"], multipliers=multipliers)
        from otel_cost.overlays import Overlays

        overlays = Overlays.read(paths, made["providers"])
        return cls(
            Catalogue(made["providers"], overlays.listings),
            f"{made['version']}, {overlays.version}",
            multipliers={**_uncovered(multipliers, overlays.multipliers), **overlays.multipliers},
            discounts=overlays.discounts,
            tools=overlays.tools,
        )

    def price(
        self,
        usage: Usage,
        *,
        model: str,
        provider: str | None = None,
        at: datetime | int,
        service_tier: str | None = None,
        summed: bool = False,
    ) -> Charge:
        """Estimate what a call cost at list price.

        Args:
            usage: Disjoint buckets; cached input is already taken out of input.
            model: The model as the span names it: dated, with a gateway's prefix, as an ARN.
            provider: The provider as the span names it; None or a framework's name looks at the model alone.
            at: When the call started: a datetime (naive means UTC) or Unix time in nanoseconds.
            service_tier: As the provider reports it: `batch`, `flex`, `priority`, `default`.
            summed: The usage is the sum of several calls, so it does not tell which of them were large enough
                for a higher rate: base rates, and an estimate where the sum is above a threshold.

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
        plain = card.plain
        if summed or not plain or is_unusual(usage):
            return _price_any(card, usage, summed)
        fresh = usage.input_tokens
        read = usage.cache_read_tokens
        write = usage.cache_write_tokens
        write_1h = usage.cache_write_1h_tokens
        total = fresh + read + write + write_1h
        for threshold, rates, fee in plain:  # noqa: B007
            if total > threshold:
                break
        a, b, c, d, e, f = rates
        atto = fresh * a + read * b + write * c + write_1h * d + usage.output_tokens * e
        picousd = (atto + usage.reasoning_tokens * f + fee + _HALF) // _ATTO_PER_PICO
        # As `Charge(...)` in half the time.
        return _new(Charge, ("priced", picousd, picousd, "", usage, card))

    def _compile(self, provider: str | None, model: str, service_tier: str | None) -> Schedule | None:
        entry = self.resolve(model, provider)
        schedule = self.schedule(entry, normal_tier(service_tier)) if entry else None
        if len(self._schedules) >= CACHED_SCHEDULES:
            self._schedules.clear()
        if len(model) + len(provider or "") + len(service_tier or "") <= LONGEST_NAME:
            self._schedules[provider, model, service_tier] = schedule
        return schedule

    def schedule(self, entry: Entry, service_tier: str = "") -> Schedule:
        """Return the rates of a model over time, for a service tier in lower case (standard: empty).

        `regional` before it, or alone, makes no difference to a model that costs the same everywhere.
        """
        terms = Terms(self.discount_ratio(entry), self.version, entry.caveat)
        tier, uplift = service_tier, None
        place, _, rest = tier.partition(" ")
        if place == REGIONAL and all(place != name for name, *_ in entry.variants):
            tier, uplift = rest, self._multiplier(entry, REGIONAL)
        return make_schedule(entry, tier, self._multiplier(entry, tier), terms, uplift)

    def _multiplier(self, entry: Entry, service_tier: str) -> str | None:
        for model in (entry.model, ""):
            if (found := self._multipliers.get((entry.provider, model, service_tier))) is not None:
                return found
        return None

    def service_tiers(self, entry: Entry) -> list[str]:
        """Return the service tiers that a model has rates for, the standard one (empty) first."""
        named = {tier for tier, *_ in entry.variants}
        named |= {
            tier
            for provider, model, tier in self._multipliers
            if provider == entry.provider and model in ("", entry.model)
        }
        if self._multiplier(entry, REGIONAL) is not None:
            named |= {f"{REGIONAL} {tier}" for tier in named if tier.partition(" ")[0] != REGIONAL}
        return ["", *sorted(named)]

    def discount_ratio(self, entry: Entry) -> Decimal:
        """Return what the customer pays less than the list price of a model, from 0 to 1."""
        for discount in self._discounts:
            if discount.provider == entry.provider and discount.model in ("", entry.model):
                return discount.ratio
        return Decimal(0)

    def resolve(self, model: str, provider: str | None = None) -> Entry | None:
        """Return the price entry that a model and provider mean, as a span names them, or None."""
        if len(model) + len(provider or "") > LONGEST_NAME:
            return None
        return self._catalogue.resolve(model, provider)

    def tool_charge(self, name: str, attributes: Mapping[str, Any]) -> Charge | None:
        """Return what a tool call cost by the user's price files, or None for a tool without a price."""
        tool = self._tools.get(name.lower())
        if tool is None:
            return None
        entry = Entry("", tool.name, (), (), tool.source, tool.source_date)
        card = ToolCard(entry, self.version)
        amount = tool.usd_per_call or Decimal(0)
        if tool.usd_per_unit is not None:
            units = read_amount(attributes.get(tool.unit_attribute))
            if units is None:
                reason = f"span attribute {tool.unit_attribute} is not a number of units"
                return Charge("unpriced", None, None, reason, None, card)
            amount += units * tool.usd_per_unit
        cost = to_picousd(amount)
        return Charge("priced", cost, cost, "", None, card)

    def entries(self) -> Iterator[Entry]:
        """Yield every price entry."""
        return self._catalogue.entries()

    def pattern_rows(self) -> Iterator[PatternRow]:
        """Yield the rules of `resolve` as ordered regular expressions over `provider/model` in lower case."""
        return self._catalogue.pattern_rows()

    def tool_rows(self) -> Iterator[dict[str, Any]]:
        """Yield what tools cost for a database, which looks them up by `name`, in lower case.

        Columns:
            tool_name: As the price file has it.
            usd_per_call: Decimal USD, 0 where there is no such fee.
            usd_per_unit: Decimal USD for each unit that the span attribute `unit_attribute` counts; an empty
                name counts nothing.
            source, source_date, version: Where the price is from.
        """
        for name, tool in self._tools.items():
            yield {
                "name": name,
                "tool_name": tool.name,
                "usd_per_call": tool.usd_per_call or Decimal(0),
                "usd_per_unit": tool.usd_per_unit or Decimal(0),
                "unit_attribute": tool.unit_attribute,
                "source": tool.source,
                "source_date": tool.source_date,
                "version": self.version,
            }

    def price_rows(self) -> Iterator[dict[str, Any]]:
        """Yield the rates for a database; see `price_rows.rows`."""
        from otel_cost.price_rows import rows

        seen = set()
        for entry in self.entries():
            if (entry.provider, entry.model) in seen:
                continue  # a price file's entry is before the one it covers
            seen.add((entry.provider, entry.model))
            for tier in self.service_tiers(entry):
                yield from rows(entry, tier, self.schedule(entry, tier), self.version)


def process_book(paths: Sequence[Path] = ()) -> PriceBook:
    """Return `PriceBook.load(paths)`, one book for everybody in this process: it takes 5 MB and some 10 ms.

    Raises:
        ConfigError: As `PriceBook.load`.
    """
    changed_ns = tuple(path.stat().st_mtime_ns if path.exists() else 0 for path in paths)
    return _book_of(tuple(paths), changed_ns)


@lru_cache(maxsize=4)
def _book_of(paths: tuple[Path, ...], changed_ns: tuple[int, ...]) -> PriceBook:
    return PriceBook.load(paths)


def _uncovered(multipliers: Multipliers, over: Multipliers) -> Multipliers:
    """Leave out those of models whose provider has another one for all of its models laid over."""
    return {key: value for key, value in multipliers.items() if (key[0], "", key[2]) not in over}


def _is_snapshot(path: str | Path) -> bool:
    """Tell a whole catalogue, as `otel-cost prices update --output` writes it, from a price file."""
    if Path(path).suffix != ".json" or not Path(path).is_file():
        return False
    with Path(path).open("rb") as file:
        return file.read(len(SNAPSHOT_BEGINS)) == SNAPSHOT_BEGINS


def is_unusual(usage: Usage) -> bool:
    """Tell whether anything but `PLAIN_BUCKETS` was used."""
    return any(usage[4:11]) or any(usage[13:])


def _price_any(card: Card, usage: Usage, summed: bool) -> Charge:
    total = 0 if summed or len(card.thresholds) == 1 else usage.total_input_tokens
    for threshold, rates, fee in card.factors:  # noqa: B007
        if total > threshold:
            break
    if not rates and not fee:
        return Charge("unpriced", None, None, "no rates are published", usage, card)
    amounts = card.amounts(usage)
    reason = _caveat(card, usage, summed)
    if reason and not any(amounts) and any(card.leftovers(usage)):
        return Charge("unpriced", None, None, reason, usage, card)
    atto = sum(map(mul, amounts, rates)) + fee
    status: PriceStatus = "estimated" if reason else "priced"
    listed = cost = (atto + _HALF) // _ATTO_PER_PICO
    if card.terms.discount_ratio:
        cost = _discounted(atto, card.terms.discount_ratio)
    return Charge(status, cost, listed, reason, usage, card)


def _caveat(card: Card, usage: Usage, summed: bool) -> str:
    if any(card.leftovers(usage)):
        missing = (bucket for bucket in card.unpriced_buckets if getattr(usage, bucket))
        return f"no rate for {', '.join(missing)}"
    if summed and len(card.thresholds) > 1 and usage.total_input_tokens > card.thresholds[-2]:
        return SUMMED
    return card.estimated


def _discounted(atto: int, ratio: Decimal) -> int:
    """Return pico-USD after a discount, rounded half up."""
    numerator, denominator = (1 - ratio).as_integer_ratio()
    scale = denominator * _ATTO_PER_PICO
    return (2 * atto * numerator + scale) // (2 * scale)


def normal_tier(service_tier: str | None) -> str:
    """Return a service tier in lower case, empty where it means the list price."""
    words = dict.fromkeys((service_tier or "").strip().lower().split(" "))
    return " ".join(word for word in words if word not in STANDARD_TIERS)
