"""What stands between a program and a right bill: one finding a line, each with its remedy."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta, timezone
from importlib import metadata
from typing import Any, Literal

from otel_cost import instrumentors, policy_report, price_list
from otel_cost.budgets import Policy
from otel_cost.errors import ConfigError, OtelCostError
from otel_cost.instrument import InstrumentConfig
from otel_cost.instrumentors import NATIVE, Choice, installed_version
from otel_cost.pricing import PriceBook

Level = Literal["ok", "warn", "fail"]

PYTHON = ((3, 10), (3, 13))
SDK = ((1, 39), (1, 45))
"""First and last minor versions that the tests run with."""
THREADING = "opentelemetry-instrumentation-threading"
BOTOCORE = "opentelemetry-instrumentation-botocore"
MAX_PRICE_AGE_DAYS = 60
RECONCILED_DAYS = 31
"""Days of totals that are proved from their charges: what budgets are about."""
MAX_MODELS = 10
"""Unpriced models named; `otel-cost sql` has the rest in the view `unpriced`."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        subject: What was looked at, stable across runs.
        remedy: What to do about it; empty where nothing is wrong.
    """

    level: Level
    subject: str
    detail: str
    remedy: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return the finding as JSON has it."""
        return asdict(self)


def examine(store: str | None = None) -> Iterator[Finding]:
    """Yield every finding, from the interpreter to the store."""
    yield _python()
    yield from _sdk()
    yield _entry_point()
    yield from _settings()
    yield from _libraries()
    yield _threading()
    yield from _switches(os.environ)
    yield _collector()
    yield from _store(store)


def _within(version: tuple[int, ...], supported: tuple[tuple[int, int], tuple[int, int]]) -> bool:
    return supported[0] <= version[:2] <= supported[1]


def _range(supported: tuple[tuple[int, int], tuple[int, int]]) -> str:
    first, last = (".".join(str(part) for part in version) for version in supported)
    return f"{first} to {last}"


def _python() -> Finding:
    version = sys.version.split()[0]
    if _within(sys.version_info[:2], PYTHON):
        return Finding("ok", "python", version)
    return Finding("warn", "python", f"{version} is not tested", f"use Python {_range(PYTHON)}")


def _sdk() -> Iterator[Finding]:
    version = installed_version("opentelemetry-sdk")
    if version is None:
        yield Finding("fail", "opentelemetry-sdk", "is not installed", "pip install opentelemetry-sdk")
        return
    if _within(instrumentors.version_number(version), SDK):
        yield Finding("ok", "opentelemetry-sdk", version)
    else:
        remedy = f"pip install 'opentelemetry-sdk>={SDK[0][0]}.{SDK[0][1]},<{SDK[1][0]}.{SDK[1][1] + 1}'"
        yield Finding("warn", "opentelemetry-sdk", f"{version} is not tested", remedy)
    api = installed_version("opentelemetry-api")
    if api != version:
        detail = f"{api} beside SDK {version}"
        yield Finding("warn", "opentelemetry-api", detail, f"pip install opentelemetry-api=={version}")


def _entry_point() -> Finding:
    """Without its entry point the package is on the path but was never installed."""
    group = metadata.entry_points(group="opentelemetry_pre_instrument")
    if any(entry_point.value == "otel_cost.instrument:pre_instrument" for entry_point in group):
        return Finding("ok", "zero-code", "opentelemetry-instrument and otel-cost run find this package")
    detail = "opentelemetry-instrument does not find this package"
    return Finding("fail", "zero-code", detail, "pip install --force-reinstall --no-deps otel-cost")


def _settings() -> Iterator[Finding]:
    try:
        config = InstrumentConfig.load()
        instrumentors.parse_order(getattr(config, "instrumentors", ()))
        Policy.load()
        book = PriceBook.load(config.prices)
    except ConfigError as error:
        for problem in error.problems:
            yield Finding("fail", "settings", problem, "correct the value, or unset the variable")
        return
    yield Finding("ok", "settings", "every OTEL_COST_* value and the policy can be used")
    for note in policy_report.unknown_variables(os.environ):
        yield Finding("warn", "settings", note, "correct the name, or unset the variable")
    yield _prices(book)
    if not config.enabled:
        yield Finding(
            "warn", "settings", "OTEL_COST_ENABLED is off: nothing is priced", "unset OTEL_COST_ENABLED"
        )


def _prices(book: PriceBook) -> Finding:
    """Rates change several times a year, so a book without a recent change is probably out of date."""
    found = price_list.check(book, datetime.now(tz=timezone.utc))
    detail = f"{found['version']}, newest change {found['newest_change']} ({found['age_days']} days ago)"
    if found["age_days"] <= MAX_PRICE_AGE_DAYS:
        return Finding("ok", "prices", detail)
    return Finding("warn", "prices", detail, "pip install --upgrade otel-cost")


def _libraries() -> Iterator[Finding]:
    try:
        choices = instrumentors.plan(_order(), disabled=_disabled())
    except ConfigError:
        return
    for choice in choices:
        yield _library(choice)
        yield from _doubles(choice)
    if not choices:
        known = ", ".join(library.name for library in instrumentors.LIBRARIES)
        yield Finding("warn", "libraries", f"no model library is installed here; known are {known}")


def _order() -> tuple[str, ...]:
    text = os.environ.get("OTEL_COST_INSTRUMENTORS", "")
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _disabled() -> list[str]:
    return [name.strip() for name in os.environ.get("OTEL_PYTHON_DISABLED_INSTRUMENTATIONS", "").split(",")]


def _library(choice: Choice) -> Finding:
    subject = f"{choice.library.name} {choice.version}"
    if choice.family is None:
        remedy = f"pip install {choice.advice}" if choice.advice else "no instrumentor is known"
        if choice.passed_over:
            remedy = f"pip install --upgrade {' '.join(choice.passed_over)}"
            return Finding("warn", subject, f"{', '.join(choice.passed_over)} does not fit it", remedy)
        return Finding("warn", subject, "nothing watches it", remedy)
    detail = "by its own spans" if choice.family == NATIVE else f"by {choice.distribution} ({choice.family})"
    if choice.passed_over:
        detail += f"; installed too and left off: {', '.join(choice.passed_over)}"
    return Finding("ok", subject, f"watched {detail}")


def _doubles(choice: Choice) -> Iterator[Finding]:
    """Yield what records the same calls beside the chosen instrumentor; they count once all the same."""
    subject = f"{choice.library.name} twice"
    switch = instrumentors.NATIVE_SWITCHES.get(choice.library.name)
    if choice.entry_point and switch and os.environ.get(switch, "false").strip().lower() != "false":
        detail = f"{switch} keeps the library's own spans on beside {choice.distribution}"
        yield Finding("warn", subject, f"{detail}; calls are counted once", f"unset {switch}")
    if choice.entry_point and choice.library.module == "botocore" and installed_version(BOTOCORE):
        detail = f"{BOTOCORE} records Bedrock calls beside {choice.distribution}"
        remedy = f"pip uninstall {choice.distribution}"
        yield Finding("warn", subject, f"{detail}; calls are counted once", remedy)


def _threading() -> Finding:
    if installed_version(THREADING):
        return Finding("ok", "threads", "calls of raw threads stay in their trace")
    return Finding(
        "warn", "threads", "calls of raw threads start traces of their own", f"pip install {THREADING}"
    )


def _switches(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Yield standard variables that keep spans from being exported."""
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        yield Finding("fail", "OTEL_SDK_DISABLED", "OpenTelemetry is off", "unset OTEL_SDK_DISABLED")
    sampler = environ.get("OTEL_TRACES_SAMPLER", "")
    if sampler and "always_on" not in sampler:
        detail = f"{sampler}: dropped model calls are metered, but reports do not see them"
        yield Finding("warn", "OTEL_TRACES_SAMPLER", detail, "unset it, or read the metrics instead")
    if environ.get("OTEL_TRACES_EXPORTER", "").strip().lower() == "none":
        yield Finding("warn", "OTEL_TRACES_EXPORTER", "no span is sent", "unset OTEL_TRACES_EXPORTER")


def _collector() -> Finding:
    from otel_cost.cli.probe import probe

    detail, remedy = probe()
    return Finding("fail" if remedy else "ok", "collector", detail, remedy)


def _store(dsn: str | None) -> Iterator[Finding]:
    """Look at the store without creating one."""
    try:
        from otel_cost.store import open_store
        from otel_cost.store.dsn import Embedded, default_dsn, parse_dsn
    except ImportError:
        detail = "the server part is not installed here, so reports are not available"
        yield Finding("warn", "store", detail, "pip install 'otel-cost[server]'")
        return
    try:
        place = parse_dsn(dsn or default_dsn())
        if isinstance(place, Embedded) and not place.path.exists():
            detail = f"there is none at {place.path} yet"
            yield Finding("warn", "store", detail, "otel-cost up --background makes it")
            return
        with open_store(dsn) as store:
            yield from _opened_store(store, str(getattr(place, "path", place)))
    except OtelCostError as error:
        yield Finding("fail", "store", str(error), "see the message; OTEL_COST_STORE names the store")


def _opened_store(store: Any, where: str) -> Iterator[Finding]:
    missing = store.pending()
    if missing:
        yield Finding("fail", "store", f"{where} lacks {len(missing)} migrations", "otel-cost migrate")
        return
    yield Finding("ok", "store", f"{where} is up to date")
    yield from _unpriced(store.query("unpriced").dicts())
    since = datetime.now(tz=timezone.utc) - timedelta(days=RECONCILED_DAYS)
    yield from _totals(store.query("reconcile", since=since).dicts())
    yield from _lost_spans(store.query("reconcile_spans", since=since).dicts())
    yield from _unaccounted(store.query("accounting_gaps", since=since).dicts())


def _totals(rows: Sequence[Mapping[str, Any]]) -> Iterator[Finding]:
    """Yield the totals that are not what their charges add up to: a server's are a few seconds behind."""
    if not rows:
        yield Finding("ok", "totals", f"of {RECONCILED_DAYS} days are what their charges add up to")
        return
    days = sorted({str(row["utc_day"]) for row in rows})
    worst = max(rows, key=lambda row: abs(row["difference_usd"] or 0))
    detail = (
        f"{worst['table_name']} is {worst['difference_usd']} USD off on {worst['utc_day']}; "
        f"{len(days)} days differ, the first {days[0]}"
    )
    yield Finding("fail", "totals", detail, "otel-cost roll; if they still differ, otel-cost roll --again")


def _lost_spans(rows: Sequence[Mapping[str, Any]]) -> Iterator[Finding]:
    """Yield the days on which spans were received that no table of charges knows of."""
    if not rows:
        yield Finding("ok", "spans", f"received in {RECONCILED_DAYS} days are all accounted for")
    for row in rows:
        detail = f"{row['missing']} of {row['received']} spans of {row['utc_day']} were not read"
        yield Finding("fail", "spans", detail, f"otel-cost backfill --since {row['utc_day']}")


def _unaccounted(rows: Sequence[Mapping[str, Any]]) -> Iterator[Finding]:
    """Yield what a server fed by a Collector has not decided: which spans count once, and who pays."""
    for row in rows:
        until = f"{row['passed_until']:%Y-%m-%d %H:%M}"
        shard = f" on shard {row['shard']}" if row["shard"] else ""
        if row["is_skipped"]:
            detail = f"passes failed{shard}, and spans inserted up to {until} UTC were passed over"
            remedy = f"otel-cost backfill --again --since {row['passed_until']:%Y-%m-%d}"
            yield Finding("fail", "accounting", detail, remedy)
        else:
            detail = f"no pass{shard} has looked at spans inserted after {until} UTC"
            remedy = "see what system.view_refreshes says of refresh_accounts; passes go on by themselves"
            yield Finding("fail", "accounting", detail, remedy)


def _unpriced(rows: Sequence[Mapping[str, Any]]) -> Iterator[Finding]:
    """Yield the models without a price, and how many calls say nothing that could be priced."""
    if not rows:
        yield Finding("ok", "unpriced models", "every call seen has a price")
    for row in [row for row in rows if row["calls_with_usage"]][:MAX_MODELS]:
        model = f"{row['provider'] or 'unknown provider'}/{row['model'] or 'unknown model'}"
        remedy = "add it to a price file and name that file in OTEL_COST_PRICES"
        yield Finding("warn", "unpriced models", f"{model}: {row['calls_with_usage']} calls", remedy)
    silent = sum(row["calls"] - row["calls_with_usage"] for row in rows)
    if silent:
        remedy = "ask for usage in streams (stream_options.include_usage), or use a newer instrumentation"
        yield Finding("warn", "calls without usage", f"{silent} calls do not say their tokens", remedy)
