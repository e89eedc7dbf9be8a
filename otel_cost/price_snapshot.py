"""The compact snapshot of the price catalogue that ships with the package, made from `genai-prices`.

Importing `genai_prices` costs a second and pricing with it 150 microseconds a call, so the agent plane reads
this snapshot instead. `otel-cost prices update` writes it again after `genai-prices` was upgraded.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from otel_cost.price_files import read

SNAPSHOT = Path(__file__).parent / "data" / "catalogue.json"
GENAI_RATE_KEYS = {
    "input_mtok": "input_usd_per_mtok",
    "cache_read_mtok": "cache_read_usd_per_mtok",
    "cache_write_mtok": "cache_write_usd_per_mtok",
    "cache_write_1h_mtok": "cache_write_1h_usd_per_mtok",
    "input_tool_mtok": "tool_input_usd_per_mtok",
    "input_audio_mtok": "audio_input_usd_per_mtok",
    "cache_audio_read_mtok": "audio_cache_read_usd_per_mtok",
    "input_image_mtok": "image_input_usd_per_mtok",
    "cache_image_read_mtok": "image_cache_read_usd_per_mtok",
    "input_video_mtok": "video_input_usd_per_mtok",
    "cache_video_read_mtok": "video_cache_read_usd_per_mtok",
    "output_mtok": "output_usd_per_mtok",
    "output_reasoning_mtok": "reasoning_usd_per_mtok",
    "output_citation_mtok": "citation_usd_per_mtok",
    "output_audio_mtok": "audio_output_usd_per_mtok",
    "output_image_mtok": "image_output_usd_per_mtok",
    "web_searches_kcount": "web_searches_usd_per_kcount",
    "storage_searches_kcount": "file_searches_usd_per_kcount",
    "code_executions_kcount": "code_executions_usd_per_kcount",
    "rerank_searches_kcount": "rerank_searches_usd_per_kcount",
    "audio_hours": "audio_usd_per_hour",
    "input_mchars": "characters_usd_per_mchar",
    "input_document_kpages": "pages_usd_per_kpage",
    "requests_kcount": "requests_usd_per_kcount",
}
"""Price keys of genai-prices and ours. Keys that price no bucket of ours are left out."""

FREE = "input_usd_per_mtok=0 output_usd_per_mtok=0"
"""What genai-prices leaves out for models that a host gives away: a price, which is not a gap."""

OVERRIDES = Path(__file__).parent / "data" / "overrides.yaml"


def build(overrides: Path = OVERRIDES) -> dict[str, Any]:
    """Return the snapshot: the installed `genai-prices` with our own dated rates laid over it."""
    from genai_prices.data import providers

    made = translate(providers)
    ours = read(overrides, sources_required=True)
    for provider, model, entry in ours.models:
        _lay_over(made[provider]["models"], model, entry)
    for name, target in ours.deployments.items():
        provider, _, model = target.partition("/")
        made[provider]["models"][model]["match"].append(name)
    for tier in ours.service_tiers:
        for model in tier.models:
            tiers = made[tier.provider].setdefault("model_tiers" if model else "service_tiers", {})
            if model:
                tiers = tiers.setdefault(model, {})
            tiers[tier.tier] = tier.multiplier
    digest = hashlib.sha256(overrides.read_bytes()).hexdigest()[:8]
    return {"version": f"genai-prices {version('genai-prices')}, otel-cost {digest}", "providers": made}


def translate(providers: Iterable[Any]) -> dict[str, Any]:
    """Return `genai_prices.types.Provider` objects in the notation of the snapshot, by provider."""
    return {provider.id: _provider(provider) for provider in providers}


def _lay_over(models: dict[str, Any], model: str, entry: dict[str, Any]) -> None:
    """Put our entry last, or in place of the catalogue's of that name, whose match rules it keeps.

    Names that it has are no other's any more, where the catalogue takes a dearer model for a plain one.
    """
    for other, made in models.items():
        if other != model:
            made["match"] = [rule for rule in made["match"] if rule not in entry["match"]]
    known = models.setdefault(model, entry)
    if known is not entry:
        known["match"] += [rule for rule in entry["match"] if rule not in known["match"]]
        known |= {key: value for key, value in entry.items() if key != "match"}


def render(snapshot: Mapping[str, Any]) -> str:
    """Return the snapshot as JSON with one model a line, so that a price change is one line of a diff."""
    return "".join(_lines(snapshot))


def write(path: Path = SNAPSHOT) -> None:
    """Write the snapshot of the installed `genai-prices` where the package reads it."""
    path.write_text(render(build()), encoding="utf-8")


def _lines(snapshot: Mapping[str, Any]) -> Iterator[str]:
    yield '{"version": ' + json.dumps(snapshot["version"]) + ',\n"providers": {\n'
    last = len(snapshot["providers"]) - 1
    for number, (name, provider) in enumerate(snapshot["providers"].items()):
        models = ",\n".join(
            f"{json.dumps(key)}: {_compact(value)}" for key, value in provider["models"].items()
        )
        head = _compact({key: value for key, value in provider.items() if key != "models"})[:-1]
        yield f'{json.dumps(name)}: {head},"models": {{\n{models}\n}}}}{"," if number < last else ""}\n'
    yield "}}\n"


def _compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _provider(provider: Any) -> dict[str, Any]:
    made: dict[str, Any] = {"source": (provider.pricing_urls or [""])[0]}
    if provider.fallback_model_providers:
        made["fallback"] = provider.fallback_model_providers
    models = {model.id.lower(): _model(model) for model in provider.models}
    made["models"] = dict(sorted(models.items(), key=lambda item: _depth(item[1]["match"])))
    return made


def _depth(match: list[Any]) -> int:
    """Order `qwen/qwen-max` before `qwen-max`, so that a name is compared whole before its last part is."""
    return -max(rule.count("/") for rule in match if isinstance(rule, str))


def _model(model: Any) -> dict[str, Any]:
    match = [model.id.lower(), *_clauses(model.match)]
    made: dict[str, Any] = {"match": [rule for n, rule in enumerate(match) if rule not in match[:n]]}
    made["prices"] = _prices(model.prices)
    if model.id.endswith(":free") and not made["prices"][0][1]:
        made["prices"] = [[None, FREE]]
    variants = list(_variants(model.price_variants or ()))
    if variants:
        made["variants"] = variants
    return made


def _clauses(clause: Any) -> Iterator[Any]:
    """Yield match rules as text (equal) or as [kind, text]; any of them is enough."""
    kind = type(clause).__name__
    if kind == "ClauseOr":
        for part in clause.or_:
            yield from _clauses(part)
    elif kind == "ClauseAnd":
        # The other part says "not text-to-speech", which narrowing in `catalogue.clause_regexp` covers.
        yield from (rule for part in clause.and_ for rule in _clauses(part) if rule[0] != "regex")
    elif kind == "ClauseEquals":
        yield clause.equals.lower()
    elif kind == "ClauseRegex":
        yield ["regex", clause.regex]
    else:
        (field,) = vars(clause)
        yield [field, getattr(clause, field).lower()]


def _prices(prices: Any) -> list[Any]:
    if isinstance(prices, list):
        return [[_constraint(price.constraint), _rates(price.prices)] for price in prices]
    return [[None, _rates(prices)]]


def _constraint(constraint: Any) -> Any:
    """Return when a price holds: always (None), from a day on (text), or daily between two times (a pair)."""
    if constraint is None:
        return None
    if hasattr(constraint, "start_date"):
        return constraint.start_date.isoformat()
    return [constraint.start_time.strftime("%H:%M"), constraint.end_time.strftime("%H:%M")]


def _variants(variants: Iterable[Any]) -> Iterator[Any]:
    for variant in variants:
        rates = _rates(variant.prices)
        if rates:
            ((_, value),) = variant.when.items()
            yield [value, _constraint(variant.constraint), rates]


def _rates(prices: Any) -> str:
    return " ".join(
        f"{GENAI_RATE_KEYS[key]}={_rate(value)}"
        for key, value in vars(prices).items()
        if value is not None and key in GENAI_RATE_KEYS
    )


def _rate(value: Any) -> str:
    if hasattr(value, "tiers"):
        return "|".join([str(value.base), *(f"{tier.start}:{tier.price}" for tier in value.tiers)])
    return str(value)
