"""Hand the policy to the warehouse: who may spend what, each organization's clock, what is unusual."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from fnmatch import translate
from typing import TYPE_CHECKING, Any, NamedTuple
from zoneinfo import ZoneInfo

from otel_cost.budgets import LEVELS, Policy
from otel_cost.store import rollups
from otel_cost.store.tables import replace

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

CLOCK_YEARS = (2020, 2045)
"""Years for which clocks are written down: older than any model call, newer than any policy."""
_DAY, _SECOND = timedelta(days=1), timedelta(seconds=1)

_BUDGETS = {
    "level": "LowCardinality(String)",
    "position": "UInt32",
    "pattern": "String",
    "regexp": "String",
    "limit_usd": "Nullable(Decimal(38, 12))",
    "budget_window": "LowCardinality(String)",
    "is_hard": "Bool",
}
_ANOMALY_SETTINGS = {
    "watch_days": "UInt16",
    "baseline_days": "UInt16",
    "min_executions": "UInt32",
    "execution_factor": "Decimal(18, 6)",
    "max_execution_usd": "Nullable(Decimal(38, 12))",
    "max_execution_calls": "Nullable(UInt64)",
    "volume_score": "Float64",
    "volume_factor": "Float64",
    "volume_min_executions": "UInt64",
    "simple_input_tokens": "UInt64",
    "simple_output_tokens": "UInt64",
    "simple_min_executions": "UInt64",
    "loop_repeats": "UInt64",
    "retry_failures": "UInt64",
    "retry_failed_ratio": "Float64",
    "retry_min_calls": "UInt64",
    "growth_factor": "Float64",
    "growth_min_tokens": "UInt64",
    "creep_factor": "Float64",
    "creep_min_tokens": "UInt64",
    "routing_points": "Float64",
    "routing_min_calls": "UInt64",
    "unowned_usd": "Decimal(38, 12)",
    "warning_usd": "Decimal(38, 12)",
    "critical_usd": "Decimal(38, 12)",
}
_TIME_ZONES = {
    "organization": "String",
    "time_zone": "LowCardinality(String)",
    "valid_from": "DateTime('UTC')",
    "valid_until": "DateTime('UTC')",
    "offset_s": "Int32",
}


class ClockPeriod(NamedTuple):
    """A time in which an organization's clock is a fixed number of seconds ahead of UTC."""

    organization: str
    time_zone: str
    valid_from: datetime
    valid_until: datetime
    offset_s: int


def push(client: Client, policy: Policy) -> bool:
    """Replace what the warehouse knows of a policy, where it differs. Tells whether clocks did.

    Days are other days on another clock: when one changes, all rollups are made anew.
    """
    _put(client, "budgets", _BUDGETS, list(_budget_rows(policy)))
    unusual = tuple(getattr(policy.anomalies, name) for name in _ANOMALY_SETTINGS)
    _put(client, "anomaly_settings", _ANOMALY_SETTINGS, [unusual])
    if not _put(client, "time_zones", _TIME_ZONES, list(clock_periods(policy))):
        return False
    client.command("SYSTEM RELOAD DICTIONARY time_zones_dictionary")
    rollups.forget(client)
    return True


def _budget_rows(policy: Policy) -> Iterator[tuple[Any, ...]]:
    for level, setting, window, is_hard in LEVELS:
        table = getattr(policy.budgets, setting)
        for position, (pattern, usd) in enumerate(table.items()):
            limit = None if usd is None else Decimal(usd)
            yield level, position, pattern, _regexp(pattern), limit, window, is_hard


def _regexp(pattern: str) -> str:
    """Return a pattern of the policy as RE2 reads it: the whole name, capitals count."""
    return "^" + translate(pattern).replace(r"\Z", r"\z")


def clock_periods(policy: Policy) -> Iterator[ClockPeriod]:
    """Yield how far each clock is ahead of UTC and when, for every organization that has one of its own."""
    for organization, name in policy.budgets.time_zone.items():
        yield from _periods(organization, name)


def _periods(organization: str, name: str) -> Iterator[ClockPeriod]:
    zone = ZoneInfo(name)
    first, last = (datetime(year, 1, 1, tzinfo=timezone.utc) for year in CLOCK_YEARS)
    began, offset = first, _offset_s(zone, first)
    day = first
    while day < last:
        after = _offset_s(zone, day + _DAY)
        if after != offset:
            change = _change(zone, day, day + _DAY)
            yield ClockPeriod(organization, name, began, change - _SECOND, offset)
            began, offset = change, after
        day += _DAY
    yield ClockPeriod(organization, name, began, last - _SECOND, offset)


def _change(zone: ZoneInfo, low: datetime, high: datetime) -> datetime:
    """Return the first second of a new offset, which differs between two moments."""
    before = _offset_s(zone, low)
    while high - low > _SECOND:
        middle = low + timedelta(seconds=int((high - low).total_seconds()) // 2)
        low, high = (middle, high) if _offset_s(zone, middle) == before else (low, middle)
    return high


def _offset_s(zone: ZoneInfo, at: datetime) -> int:
    offset = at.astimezone(zone).utcoffset()
    return int(offset.total_seconds()) if offset else 0


def _put(client: Client, table: str, columns: dict[str, str], rows: list[tuple[Any, ...]]) -> bool:
    """Put rows in the place of those of a table. Tells whether they differed."""
    found = client.query(f"SELECT {', '.join(columns)} FROM {table}").result_rows  # noqa: S608 our own names
    if sorted(map(_plain, found)) == sorted(map(_plain, rows)):
        return False
    replace(client, table, columns, rows)
    return True


def _plain(row: Sequence[Any]) -> tuple[str, ...]:
    """Return a row so that what was read and what is written compare."""
    return tuple(
        f"{value:%Y-%m-%d %H:%M:%S}"
        if isinstance(value, datetime)
        else f"{value:.12f}"
        if isinstance(value, Decimal)
        else str(value)
        for value in row
    )
