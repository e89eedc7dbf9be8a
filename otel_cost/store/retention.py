"""How long tables keep their rows."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from otel_cost.errors import ConfigError
from otel_cost.store.files import named_sql, sql_files, statements

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

FOREVER = 0
"""Days of a table that keeps everything."""
MAX_DAYS = 36_500

_TABLE = re.compile(r"ALTER TABLE (\w+)")
_RULE = re.compile(r"MODIFY (TTL .*)", re.S)


def parse(settings: Iterable[str]) -> dict[str, int]:
    """Return the days of each table from `table=days` and `table=forever`.

    Raises:
        ConfigError: A table that has no such setting, or no number of days; all problems together.
    """
    known = [path.stem for path in sql_files("retention")]
    found, problems = {}, []
    for text in settings:
        table, _, days = text.partition("=")
        if table not in known:
            problems.append(f"--retain {text!r} names no table that is kept for a time: {', '.join(known)}")
        elif days == "forever":
            found[table] = FOREVER
        elif not days.isdecimal() or not 0 < int(days) <= MAX_DAYS:
            problems.append(f"--retain {text!r} has no number of days; write {table}=90 or {table}=forever")
        else:
            found[table] = int(days)
    if problems:
        raise ConfigError(problems)
    return found


def apply(client: Client, days: Mapping[str, int]) -> list[str]:
    """Set how long tables keep their rows, where that is not so yet. Returns the tables that changed."""
    changed = []
    for name, number in days.items():
        for table, made in _by_table(name, number).items():
            rule = _rule_of(client, table)
            if number == FOREVER and rule:
                client.command(f"ALTER TABLE {table} REMOVE TTL")
            elif number == FOREVER or _RULE.findall(made[-1])[0] == rule:
                continue
            else:
                for statement in made:
                    client.command(statement)
            changed.append(table)
    return changed


def _by_table(name: str, days: int) -> dict[str, list[str]]:
    """Return the statements of a file by the table they are about; the rule comes last."""
    found: dict[str, list[str]] = {}
    for statement in rules(name, days):
        found.setdefault(_TABLE.findall(statement)[0], []).append(statement)
    return found


def rules(name: str, days: int) -> Iterator[str]:
    """Yield the statements of `clickhouse/retention/<name>.sql` with the days put in."""
    for statement in statements(named_sql("retention", name)):
        yield statement.replace("<days>", str(days))


def _rule_of(client: Client, table: str) -> str:
    """Return the TTL of a table as ClickHouse writes it, empty without one."""
    engine = client.query(
        "SELECT engine_full FROM system.tables WHERE database = currentDatabase() AND name = {table:String}",
        parameters={"table": table},
    ).result_rows[0][0]
    found = re.search(r"\b(TTL .*?)(?: SETTINGS |$)", str(engine))
    return found[1] if found else ""
