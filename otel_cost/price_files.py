"""Price files: what a user pays that the catalogue does not know, read from YAML or JSON and checked.

Numbers are read as the text that stands in the file, never through a float. `docs/prices.md` describes the
format.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from otel_cost.errors import ConfigError
from otel_cost.providers import canonical_provider
from otel_cost.rates import RATE_KEYS, STANDARD_TIERS, TOKEN_RATE_KEYS

SECTIONS = ("models", "deployments", "tools", "discounts", "service_tiers")
_RATES = frozenset(RATE_KEYS)
_MODEL = frozenset(("provider", "model", "aliases", "patterns", "rates", "dated", "source", "source_date"))
_DATED = frozenset(("valid_from", "rates", "tiers", "service_tiers"))
_TOOL = frozenset(("name", "usd_per_call", "usd_per_unit", "unit_attribute", "source", "source_date"))
_DISCOUNT = frozenset(("provider", "model", "discount_ratio"))
_TIER = frozenset(("provider", "models", "tier", "multiplier", "source", "source_date"))
_CAPITAL = re.compile(r"(?<!\\)[A-Z]")
_NOT_RE2 = re.compile(r"\(\?[=!<]|\\[1-9]")


@dataclass(frozen=True, slots=True)
class ToolPrice:
    """What a tool costs: a fee per call, or per unit that an attribute of its span counts."""

    name: str
    usd_per_call: Decimal | None
    usd_per_unit: Decimal | None
    unit_attribute: str
    source: str
    source_date: str


@dataclass(frozen=True, slots=True)
class Discount:
    """What a customer pays less than list price, for a provider or for one of its models."""

    provider: str
    model: str
    ratio: Decimal


@dataclass(frozen=True, slots=True)
class TierPrice:
    """What a service tier of a provider costs, times the list price.

    Attributes:
        models: Whose tier it is; one empty name is all of the provider's.
    """

    provider: str
    models: tuple[str, ...]
    tier: str
    multiplier: str


@dataclass(slots=True)
class PriceFile:
    """The contents of one price file.

    Attributes:
        models: (provider or empty, model, the entry in the notation of the snapshot).
        deployments: Names that customers gave, and the model behind each.
    """

    models: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)
    deployments: dict[str, str] = field(default_factory=dict)
    tools: list[ToolPrice] = field(default_factory=list)
    discounts: list[Discount] = field(default_factory=list)
    service_tiers: list[TierPrice] = field(default_factory=list)


def read(path: str | Path, *, sources_required: bool = False) -> PriceFile:
    """Return the contents of a price file, YAML or JSON.

    Raises:
        ConfigError: With every problem of the file, each as `file:line: what is wrong and what to write`.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}); name a YAML or JSON file of prices") from None
    reader = _Reader(str(path), sources_required)
    made = reader.read(text)
    if reader.problems:
        raise ConfigError(reader.problems)
    return made


@dataclass(frozen=True, slots=True)
class _Node:
    """A value of the file and the line that it stands on: text, a list of nodes, or a mapping of nodes."""

    line: int
    value: Any


def _parse(text: str) -> _Node:
    import yaml

    root = yaml.compose(text, Loader=yaml.SafeLoader)
    return _Node(1, {}) if root is None else _convert(root)


def _convert(node: Any) -> _Node:
    line = node.start_mark.line + 1
    if node.id == "mapping":
        return _Node(line, {str(key.value): _convert(value) for key, value in node.value})
    if node.id == "sequence":
        return _Node(line, [_convert(item) for item in node.value])
    return _Node(line, node.value)


class _Reader:
    """Reads one file and gathers its problems instead of stopping at the first."""

    def __init__(self, name: str, sources_required: bool) -> None:
        self.problems: list[str] = []
        self._name = name
        self._sources_required = sources_required

    def read(self, text: str) -> PriceFile:
        import yaml

        made = PriceFile()
        try:
            root = _parse(text)
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            self._add(
                mark.line + 1 if mark else 1, f"is not YAML or JSON: {getattr(error, 'problem', error)}"
            )
            return made
        sections = self._mapping(root, SECTIONS)
        made.models = list(self._each(sections.get("models"), self._model))
        made.tools = list(self._each(sections.get("tools"), self._tool))
        made.discounts = list(self._each(sections.get("discounts"), self._discount))
        made.service_tiers = list(self._each(sections.get("service_tiers"), self._tier))
        for name, node in self._mapping(sections.get("deployments") or _Node(1, {})).items():
            made.deployments[name.lower()] = self._text(node)
        return made

    def _add(self, line: int, problem: str) -> None:
        self.problems.append(f"{self._name}:{line}: {problem}")

    def _mapping(self, node: _Node, allowed: Iterable[str] = ()) -> dict[str, _Node]:
        if not isinstance(node.value, dict):
            self._add(node.line, f"{_shown(node)} is not a mapping; write `name: value` lines")
            return {}
        names = sorted(allowed)
        for name, value in node.value.items():
            if names and name not in names:
                self._add(value.line, f"{name!r} is not known here; write one of {', '.join(names)}")
        return {name: value for name, value in node.value.items() if not names or name in names}

    def _each(self, node: _Node | None, read: Any) -> Iterator[Any]:
        if node is None:
            return
        if not isinstance(node.value, list):
            self._add(node.line, f"{_shown(node)} is not a list; begin each item with `- `")
            return
        for item in node.value:
            if (made := read(item)) is not None:
                yield made

    def _text(self, node: _Node | None, default: str = "") -> str:
        if node is None:
            return default
        if not isinstance(node.value, str):
            self._add(node.line, f"{_shown(node)} is not a text")
            return default
        return node.value

    def _texts(self, node: _Node | None) -> list[str]:
        return list(self._each(node, self._text))

    def _required(self, node: _Node, fields: dict[str, _Node], name: str) -> str:
        text = self._text(fields.get(name))
        if not text:
            self._add(node.line, f"{name!r} is missing")
        return text

    def _day(self, node: _Node | None) -> str:
        text = self._text(node)
        if node is not None:
            try:
                date.fromisoformat(text)
            except ValueError:
                self._add(node.line, f"{text!r} is not a day; write it as 2026-01-31 (UTC)")
        return text

    def _source(self, node: _Node, fields: dict[str, _Node]) -> tuple[str, str]:
        source, day = self._text(fields.get("source")), self._day(fields.get("source_date"))
        if self._sources_required and not (source.startswith("https://") and day):
            self._add(node.line, "a shipped rate names its `source` (a URL) and its `source_date`")
        return source, day

    def _usd(self, name: str, node: _Node, unit: str = "USD") -> str:
        text = self._text(node).replace("_", "")
        try:
            amount = Decimal(text)
        except InvalidOperation:
            amount = Decimal("NaN")
        if not amount.is_finite() or amount < 0:
            self._add(node.line, f"{name}={_shown(node)} is not a number of {unit}; write 10 or 10.00")
            return "0"
        return text

    def _ratio(self, name: str, node: _Node | None, line: int) -> Decimal:
        ratio = Decimal(self._usd(name, node, "0 to 1")) if node else Decimal(-1)
        if not 0 <= ratio <= 1:
            self._add(node.line if node else line, f"{name} is a ratio from 0 to 1; write 0.15 for 15 % off")
            return Decimal(0)
        return ratio

    def _provider(self, fields: dict[str, _Node]) -> str:
        name = self._text(fields.get("provider")).lower()
        return canonical_provider(name) or name

    def _model(self, node: _Node) -> tuple[str, str, dict[str, Any]] | None:
        fields = self._mapping(node, _MODEL)
        model = self._required(node, fields, "model").lower()
        made: dict[str, Any] = {
            "match": [model, *(name.lower() for name in self._texts(fields.get("aliases")))]
        }
        made["match"] += [["regex", text] for text in self._each(fields.get("patterns"), self._pattern)]
        made["prices"], made["variants"] = [], []
        for line, dated in self._periods(node, fields):
            self._dated(line, dated, made)
        made["prices"].sort(key=lambda price: price[0] or "")
        made["variants"].sort(key=lambda variant: variant[1] or "", reverse=True)
        made["source"], made["source_date"] = self._source(node, fields)
        return self._provider(fields), model, made

    def _periods(self, node: _Node, fields: dict[str, _Node]) -> Iterator[tuple[int, dict[str, _Node]]]:
        if "rates" in fields and "dated" not in fields:
            yield node.line, {"rates": fields["rates"]}
        elif "dated" in fields and "rates" not in fields:
            yield from self._each(fields["dated"], lambda item: (item.line, self._mapping(item, _DATED)))
        else:
            self._add(node.line, "give either `rates`, or `dated` with one entry per change")

    def _pattern(self, node: _Node) -> str | None:
        text = self._text(node)
        try:
            re.compile(text)
        except re.error as error:
            self._add(node.line, f"{text!r} is not a regular expression: {error}")
            return None
        if _CAPITAL.search(text):
            self._add(node.line, f"{text!r} has capitals; names are compared in lower case")
        if _NOT_RE2.search(text):
            self._add(node.line, f"{text!r} looks around or back, which databases cannot; use plain patterns")
        return text

    def _dated(self, line: int, fields: dict[str, _Node], made: dict[str, Any]) -> None:
        when = self._day(fields.get("valid_from")) or None
        steps = {
            name: self._usd(name, value) for name, value in self._rates(fields.get("rates"), line).items()
        }
        for tier in self._each(fields.get("tiers"), self._threshold):
            start, rates = tier
            for name, usd in rates.items():
                steps[name] = f"{steps.get(name, '0')}|{start}:{usd}"
        made["prices"].append([when, " ".join(f"{name}={usd}" for name, usd in steps.items())])
        for tier, node in self._mapping(fields.get("service_tiers") or _Node(line, {})).items():
            self._variant(tier.lower(), node, when, steps, made)

    def _rates(self, node: _Node | None, line: int) -> dict[str, _Node]:
        if node is None or not node.value:
            self._add(line, "`rates` is missing or empty; write for example `input_usd_per_mtok: 2.50`")
            return {}
        return self._mapping(node, _RATES)

    def _threshold(self, node: _Node) -> tuple[int, dict[str, str]] | None:
        fields = self._mapping(node, _RATES | {"above_input_tokens"})
        text = self._text(fields.pop("above_input_tokens", None)).replace("_", "")
        if not text.isdigit() or not int(text):
            self._add(node.line, f"above_input_tokens={text!r} is not a number of tokens; write 200000")
            return None
        return int(text), {name: self._usd(name, value) for name, value in fields.items()}

    def _variant(self, tier: str, node: _Node, when: str | None, steps: dict[str, str], made: Any) -> None:
        if tier in STANDARD_TIERS:
            self._add(node.line, f"service tier {tier!r} means the list price; give its rates as `rates`")
        fields = self._mapping(node, _RATES | {"multiplier"})
        if "multiplier" in fields:
            ratio = Decimal(self._usd("multiplier", fields.pop("multiplier"), "times the list price"))
            rates = {
                name: _multiplied(text, ratio) for name, text in steps.items() if name in TOKEN_RATE_KEYS
            }
        else:
            rates = {}
        rates |= {name: self._usd(name, value) for name, value in fields.items()}
        made["variants"].append([tier, when, " ".join(f"{name}={usd}" for name, usd in rates.items())])

    def _tool(self, node: _Node) -> ToolPrice | None:
        fields = self._mapping(node, _TOOL)
        amounts = {
            name: Decimal(self._usd(name, fields[name]))
            for name in ("usd_per_call", "usd_per_unit")
            if name in fields
        }
        attribute = self._text(fields.get("unit_attribute"))
        if not amounts or ("usd_per_unit" in amounts) != bool(attribute):
            self._add(
                node.line, "a tool has `usd_per_call`, or `usd_per_unit` with `unit_attribute`, or both"
            )
        name = self._required(node, fields, "name")
        per_call, per_unit = amounts.get("usd_per_call"), amounts.get("usd_per_unit")
        return ToolPrice(name, per_call, per_unit, attribute, *self._source(node, fields))

    def _discount(self, node: _Node) -> Discount | None:
        fields = self._mapping(node, _DISCOUNT)
        ratio = self._ratio("discount_ratio", fields.get("discount_ratio"), node.line)
        if "provider" not in fields:
            self._add(node.line, "'provider' is missing: a discount is one provider's")
        return Discount(self._provider(fields), self._text(fields.get("model")).lower(), ratio)

    def _tier(self, node: _Node) -> TierPrice:
        fields = self._mapping(node, _TIER)
        tier = self._required(node, fields, "tier").lower()
        multiplier = self._usd(
            "multiplier", fields.get("multiplier", _Node(node.line, "")), "times the list price"
        )
        self._source(node, fields)
        models = tuple(name.lower() for name in self._texts(fields.get("models"))) or ("",)
        return TierPrice(self._provider(fields), models, tier, multiplier)


def _multiplied(steps: str, ratio: Decimal) -> str:
    base, *tiers = steps.split("|")
    scaled = [f"{start}:{Decimal(usd) * ratio}" for start, usd in (tier.split(":") for tier in tiers)]
    return "|".join([str(Decimal(base) * ratio), *scaled])


def _shown(node: _Node) -> str:
    if isinstance(node.value, str):
        return repr(node.value[:60])
    return "a list" if isinstance(node.value, list) else "a mapping"
