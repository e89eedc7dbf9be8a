"""Fill a store with generated charges.

PYTHONPATH=benchmarks python -m warehouse chdb:///tmp/fleet --charges 2000000 [--raw-days 1]
"""

from __future__ import annotations

import argparse
from datetime import date, datetime, timedelta, timezone

from otel_cost.errors import OtelCostError
from otel_cost.store import open_store
from warehouse.load import load
from warehouse.recordings import MissingRecordingError


def main() -> None:
    """Fill the store that the command line names."""
    parser = argparse.ArgumentParser(
        prog="python -m warehouse", description="Fill a store with generated charges."
    )
    parser.add_argument("store", help="chdb:///path or clickhouse://user:password@host:8123/database")
    parser.add_argument(
        "--charges", type=int, default=2_000_000, help="about how many; whole executions are written"
    )
    parser.add_argument("--days", type=int, default=30, help="over how many days")
    parser.add_argument(
        "--raw-days", type=int, default=0, help="how many of the last days also get their spans"
    )
    parser.add_argument(
        "--last-day",
        type=date.fromisoformat,
        default=datetime.now(timezone.utc).date() - timedelta(days=1),
        help="yesterday by default",
    )
    parser.add_argument("--seed", type=int, default=1, help="another seed, other charges")
    options = parser.parse_args()
    try:
        with open_store(options.store) as store:
            done = load(
                store,
                options.charges,
                last_day=options.last_day,
                days=options.days,
                raw_days=options.raw_days,
                seed=options.seed,
                tell=lambda line: print(line, flush=True),
            )
    except (MissingRecordingError, OtelCostError) as error:
        parser.exit(1, f"{error}\n")
    print(f"{done.charges:,} charges of {done.executions:,} executions on {done.days} days")


if __name__ == "__main__":
    main()
