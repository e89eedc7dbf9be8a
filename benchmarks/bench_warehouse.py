"""How long the warehouse's named queries take, and what its tables take, at some sizes. Reports, never gates.

    python benchmarks/bench_warehouse.py [--charges 2000000,20000000] [--raw-days 7] [--dir /tmp/fleet]
        [--reuse] [--runs 20] [--results benchmarks/results/warehouse.md]

Every query of `clickhouse/queries` that only reads is asked warm, over thirty days; one whose parameters have
no value here is named in the report. Each size is an embedded store in a process of its own, below `--dir`.

Rows grow in two ways. More traffic in the same thirty days is what the sizes are. A longer history of the
same traffic is the largest size beside a store of its last three days: both are asked about these.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date, datetime, timedelta, timezone
from itertools import chain
from pathlib import Path
from typing import Any

from warehouse.load import Loaded, command, extent, load, read, settle, sql

from otel_cost.budgets import Policy
from otel_cost.store import Store, open_store
from otel_cost.store.files import named_sql, sql_files, statements

RESULTS = Path(__file__).parent / "results" / "warehouse.md"
DAYS = 30
RAW_DAYS = 7
"""Of charges, and of spans beside them unless told otherwise: those of all days would take hours to make."""
RECENT_DAYS = 3
BUDGETS = {"user_usd_per_day": "10", "team_usd_per_month": "1500", "organization_usd_per_month": "20000"}
PATIENCE_S = 30
"""A query that is slower than this all runs together is asked fewer times."""
RAW = {
    "top_users": "user.id",
    "top_teams": "otel_cost.team",
    "top_organizations": "otel_cost.organization",
    "top_features": "otel_cost.feature",
    "top_agents": "gen_ai.agent.name",
    "top_models": "gen_ai.response.model",
}
"""Queries that spans alone could answer, and the attribute they would be asked by."""
OF_REPRICING = ("reprice", "pushed")
"""Steps of a repricing and of a push, which are no questions of a person."""
_PARAMETER = re.compile(r"\{(\w+):")


def measure(
    directory: Path, charges: int, days: int, *, raw_days: int, reuse: bool, runs: int
) -> dict[str, Any]:
    """Fill a store, or take one that is filled, and return what was measured of it."""
    with open_store(f"chdb://{directory}") as store:
        is_filled = reuse and not store.is_empty()
        if is_filled:
            command(store, "DROP DATABASE IF EXISTS seeds")
            store.migrate()
            settle(store, _tell)
        else:
            yesterday = datetime.now(timezone.utc).date() - timedelta(days=1)
            load(store, charges, last_day=yesterday, days=days, raw_days=min(days, raw_days), tell=_tell)
        store.push_policy(Policy.load(**BUDGETS))
        behind = len(store.stale_days())
        rolled_s = _seconds(store.roll)
        _tell(f"rolled up {behind} days in {rolled_s:.0f} s")
        settle(store, _tell)
        loaded = extent(store)
        return {
            "loaded": dataclasses.asdict(loaded),
            "behind": behind,
            "rolled_s": rolled_s,
            "bytes": read(store, sql("bytes")),
            "queries": _queries(store, loaded, loaded.first_day, runs),
            "recent": _queries(store, loaded, _recent_day(loaded), runs),
            "raw": _raw(store, loaded, runs) if loaded.raw_since and days == DAYS else {},
        }


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _seconds(work: Callable[[], object]) -> float:
    return _times(work)[0]


def _times(work: Callable[[], object]) -> tuple[float, float]:
    """Return the seconds by the clock, and of CPU time, which others on the machine do not raise."""
    cpu, clock = time.process_time(), time.perf_counter()
    work()
    return time.perf_counter() - clock, time.process_time() - cpu


def _times_ms(ask: Callable[[], object], runs: int) -> list[tuple[float, float]]:
    """Return the times of a warm query, the first two left out."""
    times = [_times(ask)]
    if times[0][0] < PATIENCE_S / 3:
        _seconds(ask)
        runs = max(3, min(runs, int(PATIENCE_S / times[0][0])))
        times = [_times(ask) for _ in range(runs)]
    return [(clock * 1000, cpu * 1000) for clock, cpu in times]


def _recent_day(loaded: Loaded) -> str:
    return str(date.fromisoformat(loaded.last_whole_day) - timedelta(days=RECENT_DAYS - 1))


def _queries(store: Store, loaded: Loaded, since_day: str, runs: int) -> dict[str, Any]:
    """Return the times of each named query, or the parameter that there is no value for."""
    values = _values(store, loaded) | {"since": f"{since_day} 00:00:00", "first_day": since_day}
    found: dict[str, Any] = {}
    for path in sql_files("queries"):
        text = statements(named_sql("queries", path.stem))[0]
        if not text.startswith(("SELECT", "WITH")) or path.stem.startswith(OF_REPRICING):
            continue
        names = set(_PARAMETER.findall(text))
        if missing := sorted(names - set(values)):
            found[path.stem] = f"no value for {', '.join(missing)}"
            continue
        params = {name: values[name] for name in names}
        found[path.stem] = _times_ms(lambda name=path.stem, given=params: store.query(name, **given), runs)
        _tell(f"{path.stem} {p50(found[path.stem]):.0f} ms, CPU {cpu(found[path.stem]):.0f} ms")
    return found


def _values(store: Store, loaded: Loaded) -> dict[str, Any]:
    """Return a value for each parameter that queries have, by name."""
    ((trace_id, execution_id, *payer),) = read(
        store, sql("example"), day=date.fromisoformat(loaded.last_whole_day)
    )
    return {
        "until": f"{loaded.last_day} 23:59:59",
        "last_day": loaded.last_day,
        "day": loaded.last_whole_day,
        "at": f"{loaded.last_day} 12:00:00",
        "limit": 20,
        "by": "team",
        "level": "",
        "kind": "",
        "run_id": "",
        "id": trace_id,
        "trace_ids": [trace_id],
        "execution_id": execution_id,
        **dict(zip(("organization", "team", "user_id", "feature", "agent_name"), payer, strict=True)),
    }


def _raw(store: Store, loaded: Loaded, runs: int) -> dict[str, list[list[tuple[float, float]]]]:
    """Return the times of a query and of the same question to the spans, over the days that have both."""
    since = f"{loaded.raw_since} 00:00:00"
    found = {}
    for name, attribute in RAW.items():
        ask = _times_ms(lambda name=name: store.query(name, since=since, limit=20), runs)
        raw = _times_ms(
            lambda attribute=attribute: read(store, sql("raw_spend"), attribute=attribute, since=since), 5
        )
        found[name] = [ask, raw]
        _tell(f"raw {name} {p50(raw):.0f} ms")
    return found


Times = list[tuple[float, float]]


def p50(times: Times) -> float:
    """Return the time that half stay below, by the clock."""
    return statistics.median(clock for clock, _ in times)


def p95(times: Times) -> float:
    """Return the time that nineteen of twenty stay below, by the clock."""
    return sorted(clock for clock, _ in times)[max(0, round(len(times) * 0.95) - 1)]


def cpu(times: Times) -> float:
    """Return the median of the CPU time."""
    return statistics.median(taken for _, taken in times)


def report(found: dict[int, dict[str, Any]], history: tuple[dict[str, Any], dict[str, Any]]) -> str:
    """Return the tables in Markdown.

    Args:
        history: What was measured of a short history, and of a long one with the same traffic.
    """
    tables = _query_table(found), _history_table(history), _raw_table(found), _byte_table(found)
    return "\n".join([*_head(found), *chain.from_iterable(tables)]) + "\n"


def _head(found: dict[int, dict[str, Any]]) -> list[str]:
    sizes = "; ".join(
        f"{one['loaded']['charges']:,} charges of {one['loaded']['executions']:,} executions on "
        f"{one['loaded']['days']} days, {_rolled(one)}"
        for one in found.values()
    )
    return [
        "# The warehouse",
        "",
        f"Generated charges: {sizes}. Embedded engine, {os.cpu_count()} cores, "
        f"Python {platform.python_version()}, load {os.getloadavg()[1]:.1f}. Warm, over the whole time, "
        "`limit` 20, milliseconds by the clock with whatever else the machine did, and of CPU time.",
        "",
    ]


def _rolled(one: dict[str, Any]) -> str:
    """Say how long the rollups took, where there was anything to roll up."""
    return (
        f"{one['behind']} days rolled up in {one['rolled_s']:.0f} s" if one["behind"] else "rolled up before"
    )


def _query_table(found: dict[int, dict[str, Any]]) -> list[str]:
    sizes = list(found)
    names = sorted({name for one in found.values() for name in one["queries"]})
    header = " | ".join(f"p50, {size:,} | p95 | CPU" for size in sizes)
    lines = [
        f"| query | {header}" + (" | growth of CPU |" if sizes[1:] else " |"),
        "|---|" + "---:|" * (3 * len(sizes) + (len(sizes) > 1)),
    ]
    for name in names:
        times = [one["queries"].get(name) for one in found.values()]
        if isinstance(times[0], str):
            lines.append(f"| `{name}` | {times[0]} |" + " |" * (3 * len(sizes) - 1))
            continue
        cells = [f"{p50(one):,.1f} | {p95(one):,.1f} | {cpu(one):,.1f}" for one in times]
        if sizes[1:]:
            cells.append(f"{cpu(times[-1]) / cpu(times[0]):.1f}x")
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    return [*lines, ""]


def _history_table(history: tuple[dict[str, Any], dict[str, Any]]) -> list[str]:
    sizes = [f"{one['loaded']['charges']:,} on {one['loaded']['days']} days" for one in history]
    lines = [
        f"The last {RECENT_DAYS} days of a short and of a long history of the same traffic, CPU time:",
        "",
        f"| query | {sizes[0]} | {sizes[1]} | growth |",
        "|---|---:|---:|---:|",
    ]
    short, long = (one["recent"] for one in history)
    for name, times in short.items():
        if not isinstance(times, str):
            growth = cpu(long[name]) / cpu(times)
            lines.append(f"| `{name}` | {cpu(times):,.1f} | {cpu(long[name]):,.1f} | {growth:.1f}x |")
    return [*lines, ""]


def _raw_table(found: dict[int, dict[str, Any]]) -> list[str]:
    if not any(one["raw"] for one in found.values()):
        return []
    lines = [
        "The same questions to the spans of the days that keep them, which add up tokens and price nothing:",
        "",
        "| query | charges | p50 | CPU | from `otel_traces`, p50 | CPU | ratio of CPU |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for size, one in found.items():
        for name, (asked, raw) in one["raw"].items():
            lines.append(
                f"| `{name}` | {size:,} | {p50(asked):,.1f} | {cpu(asked):,.1f} | {p50(raw):,.1f} "
                f"| {cpu(raw):,.1f} | {cpu(raw) / cpu(asked):,.0f}x |"
            )
    return [*lines, ""]


def _byte_table(found: dict[int, dict[str, Any]]) -> list[str]:
    lines = ["| table | charges | rows | bytes | bytes a charge |", "|---|---:|---:|---:|---:|"]
    for size, one in found.items():
        charges = one["loaded"]["charges"]
        rows = [row for row in one["bytes"] if row[2] > charges / 20]
        lines += [f"| `{name}` | {size:,} | {n:,} | {b:,} | {b / charges:.1f} |" for name, n, b in rows]
        slim = sum(b for name, _, b in one["bytes"] if name != "otel_traces")
        lines.append(f"| all but `otel_traces` | {size:,} | | {slim:,} | {slim / charges:.1f} |")
    return lines


def main() -> None:
    """Measure each size in a process of its own, print and keep the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--charges", default="2000000", help="sizes, by comma")
    parser.add_argument("--dir", type=Path, default=Path(tempfile.gettempdir()) / "otel-cost-fleet")
    parser.add_argument("--reuse", action="store_true", help="take the stores that are there")
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--raw-days", type=int, default=RAW_DAYS, help="last days that keep their spans")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where the tables are kept")
    parser.add_argument("--one-of-days", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    sizes = [int(size) for size in options.charges.split(",")]
    if options.one_of_days:
        given = {"raw_days": options.raw_days, "reuse": options.reuse, "runs": options.runs}
        found = measure(options.dir, sizes[0], options.one_of_days, **given)
        print(json.dumps(found))
        return
    short = _in_own_process(max(sizes) * RECENT_DAYS // DAYS, RECENT_DAYS, options)
    measured = {size: _in_own_process(size, DAYS, options) for size in sizes}
    table = report(measured, (short, measured[max(sizes)]))
    options.results.parent.mkdir(exist_ok=True)
    options.results.write_text(table, encoding="utf-8")
    print(table)


def _in_own_process(size: int, days: int, options: argparse.Namespace) -> dict[str, Any]:
    """Measure one size: the embedded engine has one store a process."""
    place = options.dir / (str(size) if days == DAYS else f"{size}-of-{days}-days")
    command_line = [sys.executable, __file__, "--one-of-days", str(days), "--charges", str(size)]
    command_line += ["--runs", str(options.runs), "--raw-days", str(options.raw_days), "--dir", str(place)]
    command_line += ["--reuse"] if options.reuse else []
    done = subprocess.run(command_line, stdout=subprocess.PIPE, check=True)
    return dict(json.loads(done.stdout))


if __name__ == "__main__":
    main()
