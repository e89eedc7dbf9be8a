"""Measures the findings anew and writes the tables of docs/anomalies.md: `python -m tests.anomalies`.

It takes some minutes. With `tuning` it prints what the seeds give that thresholds were chosen with.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator

from tests.anomalies import evaluate, nab
from tests.data import ROOT

PAGE = ROOT / "docs" / "anomalies.md"


def tables(seeds: range) -> Iterator[tuple[str, str]]:
    """Yield the name and the text of each table."""
    yield "planted", evaluate.planted_table(evaluate.recalled(seeds))
    yield "clean", evaluate.clean_table(seeds)
    yield "nab", nab.markdown(nab.table(nab.usual))
    yield "nab best", nab.markdown(nab.table(nab.best))


def put(page: str, name: str, text: str) -> str:
    """Return a page with a table between its marks."""
    begin, end = f"<!-- measured: {name} -->", "<!-- end -->"
    return re.sub(rf"({begin}\n).*?(\n{end})", lambda marks: marks[1] + text + marks[2], page, flags=re.S)


def main() -> None:
    """Measure, and write or print."""
    is_tuning = "tuning" in sys.argv
    for name, text in tables(evaluate.TUNING_SEEDS if is_tuning else evaluate.REPORTED_SEEDS):
        if is_tuning:
            print(text, "\n")  # noqa: T201
        else:
            PAGE.write_text(put(PAGE.read_text(encoding="utf-8"), name, text), encoding="utf-8")


if __name__ == "__main__":
    main()
