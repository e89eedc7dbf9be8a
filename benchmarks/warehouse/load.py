"""Write generated charges into a store, day by day."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from otel_cost.pricing import PriceBook
from otel_cost.store import Store
from otel_cost.store.client import WRITE
from otel_cost.store.files import statements
from warehouse.fleet import Fleet, arrivals, day_weight, profiles
from warehouse.recordings import Step, arrival_offsets_s, steps

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

SQL = Path(__file__).parent / "sql"
MESSAGES = 10
"""Earlier commands that a prompt repeats; together with its other attributes a model call is about 3 kB."""
BLOCK = {
    **WRITE,
    "max_block_size": 65_536,
    "min_insert_block_size_rows": 65_536,
    "max_insert_threads": 1,
    "parallel_view_processing": 0,
    "max_partitions_per_insert_block": 0,
}
"""Views that price a day of spans at once would need gigabytes."""
RAW_BLOCK = {**BLOCK, "max_block_size": 16_384, "min_insert_block_size_rows": 16_384}
ONCE = {"optimize_skip_merged_partitions": 1}
MERGED = (
    "charges",
    "trace_links",
    "otel_traces_trace_id_ts",
    "spend_hours",
    "spend_days",
    "user_spend_days",
    "tool_spend_days",
    "execution_days",
)


@dataclass(frozen=True, slots=True)
class Loaded:
    """What is in a store.

    Attributes:
        raw_since: The first day that also has its spans in `otel_traces`; None where none has.
    """

    charges: int
    executions: int
    first_day: str
    last_day: str
    raw_since: str | None
    days: int

    @property
    def last_whole_day(self) -> str:
        """The day before the last one, which holds but the rest of executions that began before midnight."""
        return str(date.fromisoformat(self.last_day) - timedelta(days=1))


def load(
    store: Store,
    charges: int,
    *,
    last_day: date,
    days: int = 30,
    raw_days: int = 0,
    seed: int = 1,
    fleet: Fleet | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> Loaded:
    """Fill a store with about as many charges, over `days` days up to and including `last_day`.

    The last `raw_days` of them keep their spans. Those of the very last day go through every view and the
    accounting pass. The other days go in as what `read_spans` would have said of them, which the same views
    price, and their spans as they are. Merges are settled at the end, as a server's own would after an hour.

    Raises:
        MissingRecordingError: The recordings are not at hand.
    """
    began = time.perf_counter()
    recorded, offsets_s = steps(), arrival_offsets_s()
    store.migrate()
    store.push_prices(PriceBook.load())
    runs = _runs(charges, recorded, last_day, days)
    with _seeds(store, recorded, offsets_s, fleet or Fleet(), seed):
        for number, (day, count) in enumerate(runs.items()):
            params = {"seed": seed, "day": day, "runs": count}
            has_spans = number >= days - raw_days
            if has_spans and number == days - 1:
                _deliver_day(store, params)
            else:
                _load_day(store, params, has_spans=has_spans)
            kind = "executions, with spans" if has_spans else "executions"
            tell(f"{day} {count:,} {kind}, {time.perf_counter() - began:.0f} s")
    settle(store, tell)
    return extent(store)


def extent(store: Store) -> Loaded:
    """Return what is in a store."""
    ((charges, executions, first, last, raw),) = read(store, sql("extent"))
    return Loaded(
        charges, executions, str(first), str(last), str(raw) if raw else None, (last - first).days + 1
    )


def settle(store: Store, tell: Callable[[str], None] = lambda line: None) -> None:
    """Merge every partition into one part, as the tables' own settings do after an hour without inserts."""
    for table in MERGED:
        partitions = read(store, sql("partitions"), table=table)
        for (partition,) in partitions:
            command(store, f"OPTIMIZE TABLE {table} PARTITION ID '{partition}' FINAL", ONCE)
        tell(f"merged {table}")


def command(store: Store, text: str, settings: dict[str, Any] | None = None, **params: Any) -> None:
    """Run a statement that returns nothing."""
    with store.connection("warehouse") as client:
        client.command(text, parameters=params, settings=settings or {})


def _load_day(store: Store, params: dict[str, Any], *, has_spans: bool) -> None:
    command(store, sql("insert_readings"), BLOCK, **params)
    command(store, sql("settle_day"), BLOCK, **params)
    if has_spans:
        _keep_spans(store, params)


def _keep_spans(store: Store, params: dict[str, Any]) -> None:
    """Store the spans of a day whose charges are there, past the views that would price them again."""
    views = [str(row[0]) for row in read(store, sql("views_of_spans"))]
    for view in views:
        command(store, f"DETACH TABLE {view}")
    try:
        command(store, sql("insert_raw"), RAW_BLOCK, **params)
    finally:
        for view in views:
            command(store, f"ATTACH TABLE {view}")


def _deliver_day(store: Store, params: dict[str, Any]) -> None:
    command(store, sql("insert_raw"), RAW_BLOCK, **params)
    store.account(row[0] for row in read(store, sql("traces_of_day"), **params))


def _runs(charges: int, recorded: list[Step], last_day: date, days: int) -> dict[date, int]:
    """Return how many executions each day has."""
    dates = [last_day - timedelta(days=before) for before in reversed(range(days))]
    weights = [day_weight(day.weekday()) for day in dates]
    per_execution = sum(1 + (step.tool_ms > 0) for step in recorded) / len({step.shape for step in recorded})
    executions = charges / per_execution
    return {
        day: round(executions * weight / sum(weights)) for day, weight in zip(dates, weights, strict=True)
    }


class _seeds:  # noqa: N801
    """What the days are generated from, while they are."""

    def __init__(
        self, store: Store, recorded: list[Step], offsets_s: list[float], fleet: Fleet, seed: int
    ) -> None:
        self._store = store
        self._tables = {
            "seeds.profiles": profiles(fleet, seed),
            "seeds.arrivals": arrivals(offsets_s, seed),
            "seeds.steps": _step_columns(recorded),
        }

    def __enter__(self) -> None:
        command(self._store, "DROP DATABASE IF EXISTS seeds")
        command(self._store, "CREATE DATABASE seeds")
        for name in ("seed_profiles", "seed_arrivals", "seed_steps", "view_runs", "view_spans"):
            command(self._store, sql(name))
        for table, columns in self._tables.items():
            with self._store.connection("warehouse") as client:
                _insert(client, table, columns)

    def __exit__(self, *_: object) -> None:
        command(self._store, "DROP DATABASE IF EXISTS seeds")


def _insert(client: Client, table: str, columns: dict[str, list[object]]) -> None:
    client.insert(table, list(columns.values()), column_names=list(columns), column_oriented=True)


def _step_columns(recorded: list[Step]) -> dict[str, list[object]]:
    rows = [
        asdict(step) | {"said": said, "execution_ms": until}
        for step, said, until in zip(recorded, _messages(recorded), _lengths(recorded), strict=True)
    ]
    return {name: [row[name] for row in rows] for name in rows[0]}


def _messages(recorded: list[Step]) -> Iterator[str]:
    """Yield the messages of each prompt: the recorded commands before it, the last few."""
    for number, step in enumerate(recorded):
        earlier = [
            other.action
            for other in recorded[max(0, number - MESSAGES) : number]
            if other.shape == step.shape
        ]
        yield json.dumps(
            [{"role": "assistant", "parts": [{"type": "text", "content": text}]} for text in earlier]
        )


def _lengths(recorded: list[Step]) -> list[int]:
    until: dict[int, int] = {}
    for step in recorded:
        until[step.shape] = step.after_ms + step.model_ms + step.tool_ms
    return [until[step.shape] for step in recorded]


def sql(name: str) -> str:
    """Return the one statement of a file beside this module."""
    (statement,) = statements((SQL / f"{name}.sql").read_text(encoding="utf-8"))
    return statement


def read(store: Store, text: str, **params: Any) -> list[tuple[Any, ...]]:
    """Return the rows of a query."""
    with store.connection("warehouse") as client:
        return list(client.query(text, parameters=params).result_rows)
