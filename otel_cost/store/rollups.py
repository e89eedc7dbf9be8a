"""Bring the rollups up to date: days that got spans are added up anew, and whole."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from operator import ge
from pathlib import Path
from typing import TYPE_CHECKING

from otel_cost.errors import StoreError
from otel_cost.store.connection import FINAL
from otel_cost.store.dsn import Embedded, Server
from otel_cost.store.files import sql_files, statements

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

EVERY_S = 10
"""Seconds between two passes of a server: how long a total may be behind."""
DEADLINE_S = 300.0
"""Longest wait for a server's passes, some hundred days of charges."""
_INSERT = re.compile(r"INSERT INTO (\w+)\s*\((.*?)\)\s*(?=SELECT|WITH)", re.S)
SETTINGS = "SETTINGS " + ", ".join(f"{name} = {value}" for name, value in FINAL.items())
"""What every view of a server that reads `charges FINAL` says, as each of our connections does."""
_FORGET = """
INSERT INTO rollup_states (utc_day, parts, first_part, version)
SELECT utc_day, [0, 0], argMax(first_part, version), toUnixTimestamp64Micro(now64(6))
FROM rollup_states
WHERE utc_day NOT IN (SELECT utc_day FROM dropped_days)
GROUP BY utc_day
"""
"""Notes of each day that none of its parts are rolled up."""
_REPLACED = "rolling_days"
"""The target that a pass begins with, written in place of what was there."""


def roll(client: Client, place: Embedded | Server) -> int:
    """Add up anew the days for which spans came since. Running it twice changes nothing.

    On a server its own views do it, one after the other, and this waits for them: of two writers at once the
    one that saw less could bring back what the other took out.

    Returns:
        How many days there were.

    Raises:
        StoreError: A server's views do not come to an end.
    """
    return _pass_here(client) if isinstance(place, Embedded) else _pass_there(client)


def forget(client: Client) -> None:
    """Have the next pass make every day anew that has all its charges. One that is at work notes nothing.

    What is known of days whose charges were dropped stays, and so does where the others begin: that tells
    whether their charges are dropped before the next pass.
    """
    client.command("TRUNCATE TABLE rolling_days")
    client.command(_FORGET)


def forget_all(client: Client) -> None:
    """Have the next pass make every day anew that has charges, also where they were put in a second time."""
    client.command("TRUNCATE TABLE rolling_days")
    client.command("TRUNCATE TABLE rollup_states")


def stale_days(client: Client) -> list[str]:
    """Return the days that got spans since they were rolled up, the earliest first."""
    return list(_stale(client))


def view_of(path: Path) -> str:
    """Return the refreshable view that does on a server, after the one before it, what a file does once."""
    target, select = parts_of(path)
    files = sql_files("rollups")
    place = files.index(path)
    after = f"\nDEPENDS ON {view_name(files[place - 1])}" if place else ""
    append = "" if target == _REPLACED else "\nAPPEND"
    return (
        f"CREATE MATERIALIZED VIEW IF NOT EXISTS {view_name(path)}\n"
        f"REFRESH EVERY {EVERY_S} SECOND{after}{append}\nTO {target}\nAS\n{select}\n{SETTINGS}"
    )


def parts_of(path: Path) -> tuple[str, str]:
    """Return what a file of `rollups/` or `findings/` inserts into, and the query it inserts.

    Raises:
        StoreError: It does something else.
    """
    (statement,) = statements(path.read_text(encoding="utf-8"))
    insert = _INSERT.match(statement)
    if insert is None:
        raise StoreError(f"{path.name} is not one INSERT INTO ... SELECT; write it as the others beside it")
    return insert[1], statement[insert.end() :]


def view_name(path: Path) -> str:
    """Return the name of a rollup's refreshable view: `roll_spend_hours` of `2_spend_hours.sql`."""
    return f"roll_{path.stem.partition('_')[2]}"


def _pass_here(client: Client) -> int:
    rolled, before = 0, -1
    while behind := len(_stale(client)):
        if behind == before:
            raise StoreError(f"{behind} days cannot be rolled up; otel-cost doctor says which totals differ")
        before = behind
        rolled += _begin(client)
        for path in sql_files("rollups")[1:]:
            _run(client, path)
    return rolled


def _begin(client: Client) -> int:
    """Write down the days of the next pass. Returns how many there are."""
    client.command("TRUNCATE TABLE rolling_days")
    _run(client, sql_files("rollups")[0])
    return int(str(client.command("SELECT count() FROM rolling_days")))


def _run(client: Client, path: Path) -> None:
    (statement,) = statements(path.read_text(encoding="utf-8"))
    client.command(statement, settings={"log_comment": view_name(path)})


@dataclass(frozen=True, slots=True)
class _Stale:
    """How many parts of charges and of trace_links a day has, and how many of them are rolled up."""

    parts: tuple[int, ...]
    rolled: tuple[int, ...]

    def has(self, parts: tuple[int, ...]) -> bool:
        """Whether what there was at some time is rolled up."""
        return len(self.rolled) == len(parts) and all(map(ge, self.rolled, parts))


def _stale(client: Client) -> dict[str, _Stale]:
    """Return the days that are behind."""
    asked = "SELECT utc_day, parts, rolled_parts FROM stale_days ORDER BY utc_day"
    rows = client.query(asked, settings={"log_comment": "stale_days"}).result_rows
    return {str(day): _Stale(tuple(parts), tuple(rolled)) for day, parts, rolled in rows}


def _pass_there(client: Client) -> int:
    wanted = _stale(client)
    give_up = time.monotonic() + DEADLINE_S
    while behind := [day for day, now in _stale(client).items() if _is_missing(now, wanted.get(day))]:
        if time.monotonic() > give_up:
            raise StoreError(
                f"the rollups of {', '.join(behind)} are not up to date after {DEADLINE_S:.0f} s; "
                "see system.view_refreshes for what its views say"
            )
        for path in sql_files("rollups"):
            client.command(f"SYSTEM REFRESH VIEW {view_name(path)}")
            client.command(f"SYSTEM WAIT VIEW {view_name(path)}")
    return len(wanted)


def _is_missing(now: _Stale, wanted: _Stale | None) -> bool:
    return wanted is not None and not now.has(wanted.parts)
