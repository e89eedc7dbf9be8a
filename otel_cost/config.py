"""Settings of the agent plane: argument, then environment, then default.

`docs/settings.md` is generated from this module; a test says so.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from otel_cost.errors import ConfigError

TRUE = frozenset({"1", "true", "yes", "on"})
FALSE = frozenset({"0", "false", "no", "off", ""})


def setting(variable: str, default: Any, help_text: str) -> Any:
    """Declare a field of a settings class: its variable, default and one line of help."""
    return field(default=default, metadata={"variable": variable, "help": help_text})


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What the processor does. Every field can be given as an argument or as its variable."""

    enabled: bool = setting(
        "OTEL_COST_ENABLED", True, "Enrich spans at all; `false` turns zero-code set-up off, its guard too."
    )
    prices: tuple[Path, ...] = setting(
        "OTEL_COST_PRICES",
        (),
        "Price files laid over the catalogue, separated like PATH; later ones win. "
        "Default: `prices` of the policy.",
    )
    emit_cost: bool = setting(
        "OTEL_COST_EMIT_COST",
        True,
        "Also write `gen_ai.usage.cost`, which today's backends read. Turn off where one would add it twice.",
    )
    metrics: bool = setting(
        "OTEL_COST_METRICS", True, "Report cost, tokens and errors as OpenTelemetry metrics."
    )
    max_executions: int = setting(
        "OTEL_COST_MAX_EXECUTIONS",
        4096,
        "Executions whose totals are kept; least recently used go first.",
    )
    max_open_spans: int = setting(
        "OTEL_COST_MAX_OPEN_SPANS", 65536, "Open spans followed; beyond it the oldest are let go."
    )
    hash_key: str = setting(
        "OTEL_COST_HASH_KEY",
        "",
        "Secret that replaces personal ids by keyed hashes; unset: they stay.",
    )
    hash_fields: tuple[str, ...] = setting(
        "OTEL_COST_HASH_FIELDS", ("user",), "Payer fields that hold personal ids, separated by commas."
    )

    @classmethod
    def load(cls, environ: Mapping[str, str] | None = None, **arguments: Any) -> Config:
        """Return the settings in force: arguments, then `OTEL_COST_*`, then defaults.

        Price files that neither names are those of the policy file, where there is one.

        Raises:
            ConfigError: Naming every value that cannot be used, all together.
        """
        environ = os.environ if environ is None else environ
        problems: list[str] = []
        values: dict[str, Any] = {}
        for item in fields(cls):
            text = environ.get(item.metadata["variable"])
            if item.name in arguments or text is None:
                continue
            try:
                values[item.name] = _parse(text, item.default)
                if item.name == "hash_fields":
                    _check_payer_fields(values[item.name])
            except ValueError as error:
                problems.append(f"{item.metadata['variable']}={_shown(item.name, text)} {error}")
        if not values.get("prices") and "prices" not in arguments:
            try:
                values["prices"] = _prices_of_policy(environ)
            except ConfigError as error:
                problems.extend(error.problems)
        if problems:
            raise ConfigError(problems)
        return cls(**values, **arguments)


def _prices_of_policy(environ: Mapping[str, str]) -> tuple[Path, ...]:
    from otel_cost.policy_file import prices_in_file

    return prices_in_file(environ)


def _parse(text: str, default: Any) -> Any:
    if isinstance(default, bool):
        return _parse_switch(text)
    if isinstance(default, int):
        return _parse_count(text, default)
    if isinstance(default, tuple):
        if default:
            return tuple(part.strip() for part in text.split(",") if part.strip())
        return tuple(Path(part) for part in text.split(os.pathsep) if part)
    return text


def _check_payer_fields(names: tuple[str, ...]) -> None:
    """Raise `ValueError` for a name that is no field: the ids it was meant for would stay readable."""
    import difflib

    from otel_cost.attribution import Payer

    for name in names:
        if name not in Payer._fields:
            close = [each for each in Payer._fields if name.startswith(each)]
            close = close or difflib.get_close_matches(name, Payer._fields, 1)
            meant = f"did you mean {close[0]}? " if close else ""
            raise ValueError(f"names no payer field {name!r}; {meant}there are {', '.join(Payer._fields)}")


def _parse_switch(text: str) -> bool:
    if text.strip().lower() in TRUE:
        return True
    if text.strip().lower() in FALSE:
        return False
    raise ValueError("is not a switch; write true or false")


def _parse_count(text: str, default: int) -> int:
    if text.strip().isdigit() and int(text) > 0:
        return int(text)
    raise ValueError(f"is not a whole number above 0; write for example {default}")


def _shown(name: str, text: str) -> str:
    return "'***'" if name == "hash_key" else repr(text[:80])
