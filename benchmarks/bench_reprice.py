"""A million charges priced again: how long it takes, and whether each costs what Python says. Never gates.

    python benchmarks/bench_reprice.py [--charges 1000000]

Charges are made in the store from shapes: every combination of model, tokens, service tier and day. Python's
`PriceBook` prices each shape, and every charge is compared with the amount of its shape: how many differ, and
the exact sum.
"""

from __future__ import annotations

import argparse
import itertools
import os
import platform
import resource
import tempfile
import time
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

from otel_cost.charging import charge
from otel_cost.pricing import PriceBook
from otel_cost.store import Store, open_store, reprice
from otel_cost.usage import Reading, Usage

RESULTS = Path(__file__).parent / "results" / "reprice.md"
FIRST_DAY = datetime(2026, 6, 1, tzinfo=timezone.utc)
DAYS = 10
MODELS = (
    ("openai", "gpt-4o"),
    ("openai", "gpt-4o-mini"),
    ("openai", "gpt-5"),
    ("anthropic", "claude-sonnet-4-5"),
    ("google", "gemini-2.5-pro"),
    ("deepseek", "deepseek-chat"),
    ("house", "large"),
    ("house", "nobody-knows"),
)
INPUTS = (0, 1, 999, 60_000, 200_000, 200_001, 272_001)
OUTPUTS = (0, 17, 2_000)
TIERS = ("", "batch", "priority", "flex")
NEW_PRICES = """
models:
  - provider: house
    model: large
    dated:
      - rates: {input_usd_per_mtok: 4, output_usd_per_mtok: 16}
      - valid_from: 2026-06-05
        rates: {input_usd_per_mtok: 2, cache_read_usd_per_mtok: 0.3, output_usd_per_mtok: 8}
        tiers: [{above_input_tokens: 200_000, input_usd_per_mtok: 3, output_usd_per_mtok: 12}]
        service_tiers: {batch: {multiplier: 0.5}}
discounts:
  - {provider: openai, discount_ratio: 0.137}
  - {provider: anthropic, discount_ratio: 0.05}
"""
FILL = """
INSERT INTO charges (trace_id, span_id, execution_id, started_at, ended_at, service_name, scope_name, kind,
    span_class, provider, model, request_model, operation, service_tier, input_tokens, cache_read_tokens,
    output_tokens, reasoning_tokens, price_status, user_id, organization, agent_name)
SELECT
    lower(leftPad(hex(sipHash64(intDiv(number, 8))), 32, '0')) AS trace_id,
    lower(leftPad(hex(number), 16, '0')),
    trace_id, shape.at + toIntervalMillisecond(number % 1000) AS began, began + INTERVAL 1 SECOND, 'agent',
    'bench',
    'model', 'model', shape.provider, shape.model, shape.model, 'chat', shape.tier, shape.input, shape.cached,
    shape.output, shape.reasoning, 'unpriced', concat('u', toString(number % 500)),
    concat('o', toString(number % 5)), 'researcher'
FROM numbers({charges:UInt64}) AS n
INNER JOIN shapes AS shape ON shape.id = number % {shapes:UInt64}
SETTINGS max_partitions_per_insert_block = 0
"""
COMPARE = """
SELECT
    count() AS charges,
    countIf(NOT (charge.cost_usd <=> shape.cost_usd) OR charge.price_status != shape.status) AS differ,
    toString(sum(charge.cost_usd)) AS total
FROM charges AS charge FINAL
INNER JOIN shapes AS shape
    ON shape.id = reinterpretAsUInt64(reverse(unhex(charge.span_id))) % {shapes:UInt64}
"""


def make_shapes(book: PriceBook) -> list[list[Any]]:
    """Return every shape with what it costs by the book in Python."""
    shapes = []
    days = [FIRST_DAY + timedelta(days=day, hours=7 * day % 24) for day in range(DAYS)]
    for at, (provider, model), total, output, tier in itertools.product(days, MODELS, INPUTS, OUTPUTS, TIERS):
        cached, reasoning = total // 3, output // 4
        usage = Usage(
            input_tokens=total - cached,
            cache_read_tokens=cached,
            output_tokens=output - reasoning,
            reasoning_tokens=reasoning,
        )
        reading = Reading(
            "model", provider=provider, model=model, request_model=model, usage=usage, service_tier=tier
        )
        found = charge(reading, {}, book, at=int(at.timestamp()) * 10**9)
        row = [len(shapes), at, provider, model, tier, total, cached, output, reasoning]
        shapes.append([*row, found.cost_usd, found.status])
    return shapes


def fill(store: Store, shapes: list[list[Any]], charges: int) -> None:
    """Make charges without a price, eight to a trace."""
    store.sql(
        "CREATE TABLE shapes (id UInt64, at DateTime64(9, 'UTC'), provider String, model String, tier String,"
        " input UInt64, cached UInt64, output UInt64, reasoning UInt64, cost_usd Nullable(Decimal(38, 12)),"
        " status String) ENGINE = MergeTree ORDER BY id",
        fmt="Null",
        readonly=False,
    )
    names = (
        "id",
        "at",
        "provider",
        "model",
        "tier",
        "input",
        "cached",
        "output",
        "reasoning",
        "cost_usd",
        "status",
    )
    with store.connection("shapes") as client:
        client.insert("shapes", shapes, column_names=names)
    store.sql(FILL, {"charges": charges, "shapes": len(shapes)}, fmt="Null", readonly=False)


def compare(store: Store, shapes: list[list[Any]], charges: int) -> tuple[int, int, bool]:
    """Return how many charges there are, how many differ from Python's, and whether the totals agree."""
    answer = store.sql(COMPARE, {"shapes": len(shapes)}, fmt="TSV").split()
    found, differ, total = int(answer[0]), int(answer[1]), Decimal(answer[2].decode())
    whole, rest = divmod(charges, len(shapes))
    wanted = sum(((row[9] or Decimal(0)) * (whole + (row[0] < rest)) for row in shapes), Decimal(0))
    return found, differ, total == wanted


def measure(directory: Path, charges: int) -> list[tuple[str, str]]:
    """Return what was measured, a line each."""
    file = directory / "new.yaml"
    file.write_text(NEW_PRICES)
    book = PriceBook.load([file])
    shapes = make_shapes(book)
    lines = [("distinct shapes, each priced in Python", f"{len(shapes):,}")]
    with open_store(f"chdb://{directory}/store") as store:
        store.migrate()
        store.push_prices(book)
        fill(store, shapes, charges)
        for label, dry_run in (
            ("dry run", True),
            ("run", False),
            ("run that finds nothing to change", False),
        ):
            started = time.perf_counter()
            report = reprice.reprice(store, reprice.Asked(), dry_run=dry_run)
            elapsed = time.perf_counter() - started
            rate = f"{elapsed:.1f} s, {charges / elapsed:,.0f} charges/s, {report.run.changed:,} changed"
            lines.append((label, rate))
            if label == "run":
                run_id = report.run.run_id
                found, differ, is_total = compare(store, shapes, charges)
                lines.append(("charges compared with Python", f"{found:,}"))
                lines.append(("of them different", f"{differ:,}"))
                lines.append(("total equal to the pico-dollar", "yes" if is_total else "NO"))
        started = time.perf_counter()
        reprice.undo(store, run_id)
        lines.append(("undo", f"{time.perf_counter() - started:.1f} s"))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return [*lines, ("largest memory of the process, engine included", f"{peak:,.0f} MB")]


def main() -> None:
    """Measure, print and keep the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--charges", type=int, default=1_000_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        lines = measure(Path(directory), options.charges)
    head = (
        f"# Pricing again\n\n{options.charges:,} charges over {DAYS} days in the embedded store, one round; "
        f"{os.cpu_count()} cores, Python {platform.python_version()}, load {os.getloadavg()[1]:.1f}.\n\n"
    )
    text = head + "| | |\n|---|---|\n" + "".join(f"| {name} | {value} |\n" for name, value in lines)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
