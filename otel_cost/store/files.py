"""Find the SQL files, in an installed wheel or in a checkout."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

from otel_cost.errors import ConfigError

_PACKAGE = Path(__file__).resolve().parent.parent
ACCOUNTS = "<accounts of recent_traces>"
REPRICED_ACCOUNTS = "<account_traces of repriced>"
PRICING = "<pricing of charges>"
DEAREST = "<executions of dearest>"
PAYERS = "<payers of link_spans>"
TRACES = "<traces of find_traces>"
UNREAD = "<unread_spans>"
"""Marks in a file where a part of another file stands: what is decided twice is written once."""
_NAME = re.compile(r"[a-z0-9_]+")
SHOWN = "<database>"
"""Stands in clickhouse/cluster/ and server/ for the database that shows all shards."""
_RIVALS = "trace_id IN {rivals:Array(String)}"
_ALL_RECORDS = """FROM charges FINAL
        WHERE (trace_id IN {trace_ids:Array(String)} OR trace_id IN {rivals:Array(String)})"""
_ALL_RECORDS_OF_SHARDS = """FROM <database>.charges FINAL
        WHERE (trace_id GLOBAL IN (SELECT trace_id FROM recent_traces)
            OR trace_id GLOBAL IN (SELECT trace_id FROM rival_traces))"""


@lru_cache(maxsize=1)
def sql_root() -> Path:
    """Return the directory of migrations/, views/ and queries/: in the package, else beside it."""
    for root in (_PACKAGE / "clickhouse", _PACKAGE.parent / "clickhouse"):
        if (root / "migrations").is_dir():
            return root
    raise ConfigError(
        f"the SQL files of otel-cost are not at {_PACKAGE / 'clickhouse'}; install otel-cost again"
    )


def sql_files(folder: str) -> list[Path]:
    """Return the SQL files of `migrations`, `views` or `queries`, by name."""
    return sorted((sql_root() / folder).glob("*.sql"))


@lru_cache(maxsize=256)
def named_sql(folder: str, name: str) -> str:
    """Return the text of one SQL file, with the parts of other files that it asks for.

    Raises:
        ConfigError: There is no file of that name.
    """
    path = sql_root() / folder / f"{name}.sql"
    if not _NAME.fullmatch(name) or not path.is_file():
        known = ", ".join(file.stem for file in sql_files(folder))
        raise ConfigError(f"{name!r} is no file of clickhouse/{folder}; there are {known}")
    return with_parts(path.read_text(encoding="utf-8"))


def with_parts(text: str, database: str = "", *, is_of_shard: bool = False) -> str:
    """Return a file's text with the parts of other files put in where a mark asks for them.

    A parametrised view cannot be read by a refreshable one, and no view can be told which table to read.

    Args:
        database: Of a cluster, the one that shows all shards.
        is_of_shard: The accounting query is to look for rivals of its traces on other shards.
    """
    if ACCOUNTS in text:
        query = _query_of("accounts")
        query = _of_shard(query) if is_of_shard else query.replace(_RIVALS, "false")
        query = query.replace("IN {trace_ids:Array(String)}", "IN (SELECT trace_id FROM recent_traces)")
        query = query.replace("{first_day:Date}", "(SELECT first_day FROM recent_days)")
        query = query.replace("{last_day:Date}", "(SELECT last_day FROM recent_days)")
        text = text.replace(ACCOUNTS, query)
    if REPRICED_ACCOUNTS in text:
        text = text.replace(REPRICED_ACCOUNTS, _accounting_of("repriced"))
    if DEAREST in text:
        text = text.replace(DEAREST, _executions_of("dearest"))
    if PRICING in text:
        text = text.replace(PRICING, _pricing())
    if PAYERS in text:
        text = text.replace(PAYERS, _steps_of(_query_of("link_spans")))
    if TRACES in text:
        text = text.replace(TRACES, _steps_of(*statements(named_sql("queries", "find_traces"))))
    if UNREAD in text:
        (spans,) = statements(named_sql("backfill", "unread_spans"))
        text = text.replace(UNREAD, spans)
    return text.replace(SHOWN, f"`{database}`") if database else text


def _of_shard(query: str) -> str:
    """Return the accounting query as a shard asks it, whose traces have rivals on others."""
    if _ALL_RECORDS not in query:
        raise ConfigError("views/accounts.sql does not look for rivals where a shard would")
    return query.replace(_ALL_RECORDS, _ALL_RECORDS_OF_SHARDS)


def _accounting_of(table: str) -> str:
    """Return the accounting pass over a table like `charges`."""
    (into,) = statements(named_sql("queries", "account_traces"))
    view = _query_of("accounts").replace("charges FINAL", f"{table} FINAL")
    into = into.replace("INSERT INTO charges", f"INSERT INTO {table}")
    return re.sub(r"FROM accounts\(.*\)$", lambda _: f"FROM\n(\n{view}\n)", into, flags=re.S)


def _executions_of(table: str) -> str:
    """Return the query of the executions that a table names, which reads nothing of the others."""
    rows = "FROM execution_days AS part FINAL"
    only = f"{rows}\n    PREWHERE execution_key GLOBAL IN {table}"
    return _query_of("executions").replace(rows, only)


def view_over(view: str, spans: str) -> tuple[str, str]:
    """Return what a view that reads `otel_traces` writes to, and its query over some spans instead of all."""
    (statement,) = statements(named_sql("views", view))
    made, _, query = statement.partition("\nAS\n")
    return made.rpartition("\nTO ")[2], query.replace("FROM otel_traces", f"FROM\n(\n{spans}\n)")


def _query_of(view: str) -> str:
    (statement,) = statements(named_sql("views", view))
    return statement.partition("\nAS\n")[2]


def _pricing() -> str:
    """Return the steps of the view that prices spans on arrival, over `asked` in place of `readings`."""
    return re.sub(r"\breadings\b", "asked", _steps_of(_query_of("charge_readings")))


def _steps_of(query: str) -> str:
    """Return what a query makes out before its last SELECT."""
    return query.removeprefix("WITH\n").rpartition("\nSELECT\n")[0].strip()


def statements(text: str) -> list[str]:
    """Split a file into its statements. Semicolons end statements and stand nowhere else."""
    bare = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("--"))
    return [statement.strip() for statement in bare.split(";") if statement.strip()]
