"""A user's price files as the price book lays them over the catalogue."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from otel_cost.catalogue import Catalogue, Entry, Listing, listing_of
from otel_cost.errors import ConfigError
from otel_cost.price_files import Discount, PriceFile, ToolPrice, read


@dataclass(frozen=True, slots=True)
class Overlays:
    """What price files add and change, the most important first.

    Attributes:
        listings: (provider or empty for any, models).
        multipliers: Factor of the list price by provider, model (empty for all) and service tier.
        version: The files by name, with the beginning of the SHA-256 of each.
    """

    listings: tuple[tuple[str, Listing], ...]
    multipliers: Mapping[tuple[str, str, str], str]
    discounts: tuple[Discount, ...]
    tools: Mapping[str, ToolPrice]
    version: str

    @classmethod
    def read(cls, paths: Sequence[str | Path], providers: Mapping[str, Mapping[str, Any]]) -> Overlays:
        """Return the files' contents, later files before earlier ones.

        Raises:
            ConfigError: Naming every problem of every file.
        """
        files = _read_all(paths)
        listings = [pair for file in reversed(files) for pair in _listings(file)]
        catalogue = Catalogue(providers, listings)
        problems: list[str] = []
        deployments = _deployments(files, catalogue, problems)
        discounts = list(_discounts(files, catalogue, problems))
        if problems:
            raise ConfigError(problems)
        return cls(
            listings=(*deployments, *listings),
            multipliers={
                (one.provider, model, one.tier): one.multiplier
                for file in files
                for one in file.service_tiers
                for model in one.models
            },
            discounts=tuple(sorted(discounts, key=lambda discount: not discount.model)),
            tools={tool.name.lower(): tool for file in files for tool in file.tools},
            version=", ".join(map(_version, paths)),
        )


def _read_all(paths: Iterable[str | Path]) -> list[PriceFile]:
    files: list[PriceFile] = []
    problems: list[str] = []
    for path in paths:
        try:
            files.append(read(path))
        except ConfigError as error:  # noqa: PERF203 - files are few
            problems += error.problems
    if problems:
        raise ConfigError(problems)
    return files


def _listings(file: PriceFile) -> list[tuple[str, Listing]]:
    models: dict[str, dict[str, Any]] = {}
    for provider, model, made in file.models:
        models.setdefault(provider, {})[model] = made
    # A price for one provider is more specific than one for any, whose provider is empty.
    return [(name, listing_of(name, models[name])) for name in sorted(models, reverse=True)]


def _deployments(
    files: Iterable[PriceFile], catalogue: Catalogue, problems: list[str]
) -> list[tuple[str, Listing]]:
    listing = Listing()
    names = {name: model for file in files for name, model in file.deployments.items()}
    for name, model in names.items():
        entry = _behind(model, catalogue)
        if entry is None:
            problems.append(
                f"deployment {name!r} is of model {model!r}, which has no price; add one to `models`"
            )
        else:
            listing.add(entry, [name])
    return [("", listing)] if names else []


def _discounts(files: Sequence[PriceFile], catalogue: Catalogue, problems: list[str]) -> Iterator[Discount]:
    """Yield the discounts of later files first, each with its model as the catalogue names it."""
    for discount in (discount for file in reversed(files) for discount in file.discounts):
        entry = catalogue.resolve(discount.model, discount.provider) if discount.model else None
        if discount.model and entry is None:
            problems.append(f"discount on model {discount.model!r}, which has no price; add one to `models`")
        yield replace(discount, model=entry.model) if entry else discount


def _behind(model: str, catalogue: Catalogue) -> Entry | None:
    return catalogue.resolve(model, None) if "/" in model else catalogue.resolve(model, "azure")


def _version(path: str | Path) -> str:
    return f"{Path(path).name} {hashlib.sha256(Path(path).read_bytes()).hexdigest()[:8]}"
