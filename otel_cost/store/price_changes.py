"""What a price book changes in the warehouse: models, rates and tools, old beside new."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from otel_cost.rates import PRICED_UNITS, TOKEN_UNITS

Row = Mapping[str, Any]
Key = tuple[Any, ...]

_RATE_KEY = ("provider", "model", "service_tier", "valid_from")
_TOOL_KEY = ("name",)
_NOT_COMPARED = frozenset({"version", "source", "source_date", *_RATE_KEY, *_TOOL_KEY})
"""What tells rows apart, or only says where a rate is from."""


@dataclass(frozen=True, slots=True)
class PriceChange:
    """One model, rate period or tool that changes.

    Attributes:
        subject: `book`, `model`, `rates` or `tool`.
        change: `added`, `changed` or `removed`.
        old, new: The price by the name of its parts, USD per unit; empty where there is none.
    """

    subject: str
    change: str
    provider: str = ""
    model: str = ""
    service_tier: str = ""
    valid_from: datetime | None = None
    old: dict[str, Any] = field(default_factory=dict)
    new: dict[str, Any] = field(default_factory=dict)

    def differences(self) -> Iterator[tuple[str, str, str]]:
        """Yield the parts that differ, as a person reads them: name, old, new, per million tokens."""
        for name in dict.fromkeys((*self.new, *self.old)):
            old, new = self.old.get(name, ""), self.new.get(name, "")
            if old != new:
                yield name, _per_million(name, old), _per_million(name, new)


@dataclass(frozen=True, slots=True)
class BookChange:
    """What a push changes, or would."""

    old_version: str
    new_version: str
    changes: list[PriceChange]

    def count(self, subject: str, change: str) -> int:
        """Return how many models, rates or tools are added, changed or removed."""
        return sum(each.subject == subject and each.change == change for each in self.changes)

    def as_dict(self) -> dict[str, Any]:
        """Return it ready for JSON."""
        counts = {
            subject: {change: self.count(subject, change) for change in ("added", "changed", "removed")}
            for subject in ("model", "rates", "tool")
        }
        return {
            "old_version": self.old_version,
            "new_version": self.new_version,
            "counts": counts,
            "changes": [asdict(each) for each in self.changes],
        }


def compare(
    versions: tuple[str, str], rates: tuple[list[Row], list[Row]], tools: tuple[list[Row], list[Row]]
) -> BookChange:
    """Return what differs between two books: rows of `prices` and `tool_prices`, old and new."""
    old_version, new_version = versions
    if not rates[0]:
        return BookChange(old_version, new_version, [PriceChange("book", "added")])
    changes = [*_models(*rates), *_rates(*rates), *_tools(*tools)]
    if changes or old_version != new_version:
        changes.insert(0, PriceChange("book", "changed"))
    return BookChange(old_version, new_version, changes)


def _models(old: list[Row], new: list[Row]) -> Iterator[PriceChange]:
    before = {(row["provider"], row["model"]) for row in old}
    after = {(row["provider"], row["model"]) for row in new}
    altered = {(each.provider, each.model) for each in _rates(old, new)} & before & after
    for names, change in ((after - before, "added"), (altered, "changed"), (before - after, "removed")):
        for provider, model in sorted(names):
            yield PriceChange("model", change, provider, model)


def _rates(old: list[Row], new: list[Row]) -> Iterator[PriceChange]:
    for key, change, before, after in _differing(old, new, _RATE_KEY):
        provider, model, tier, valid_from = key
        yield PriceChange("rates", change, provider, model, tier, valid_from, _shown(before), _shown(after))


def _tools(old: list[Row], new: list[Row]) -> Iterator[PriceChange]:
    for key, change, before, after in _differing(old, new, _TOOL_KEY):
        yield PriceChange("tool", change, "", key[0], "", None, _shown(before), _shown(after))


def _differing(
    old: list[Row], new: list[Row], names: tuple[str, ...]
) -> Iterator[tuple[Key, str, Row | None, Row | None]]:
    before = {tuple(row[name] for name in names): row for row in old}
    after = {tuple(row[name] for name in names): row for row in new}
    for key in sorted(before.keys() | after.keys()):
        was, now = before.get(key), after.get(key)
        if was is None or now is None:
            yield key, "removed" if now is None else "added", was, now
        elif _compared(was) != _compared(now):
            yield key, "changed", was, now


def _compared(row: Row) -> list[Any]:
    return [list(value) if isinstance(value, tuple) else value for value in map(row.get, _names(row))]


def _names(row: Row) -> list[str]:
    return [name for name in row if name not in _NOT_COMPARED]


def _shown(row: Row | None) -> dict[str, Any]:
    """Return the parts of a price by name, exact: `{'input_tokens': '0.000002', 'valid_to': ...}`."""
    if row is None:
        return {}
    shown: dict[str, Any] = {}
    for name in _names(row):
        if name == "rates":
            shown |= _named_rates(row)
        elif row[name] not in ("", [], ()):
            shown[name] = _text(row[name])
    return shown


def _named_rates(row: Row) -> Iterator[tuple[str, str]]:
    starts = ("", *(f" above {start:,}" for start in row["thresholds"]))
    for at, start in enumerate(starts):
        rates = row["rates"][at * len(PRICED_UNITS) : (at + 1) * len(PRICED_UNITS)]
        for unit, rate in zip(PRICED_UNITS, rates, strict=True):
            if rate >= 0:
                yield f"{unit}{start}", _text(rate)


def _text(value: Any) -> Any:
    if isinstance(value, Decimal):
        return f"{value.normalize():f}"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}"
    return list(value) if isinstance(value, list | tuple) else value


def _per_million(name: str, value: Any) -> str:
    if value and name.partition(" ")[0] in TOKEN_UNITS:
        return f"{_text(Decimal(value) * 10**6)} per million"
    return str(value)
