"""The suite for other backends: `python -m tests.conformance export DIR`, then `check ANSWERS.json`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from tests.conformance import suite


def main() -> int:
    """Write the suite's files, or hold a backend's answers to them. Exit 1 when an answer differs."""
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("export", help="write <case>.otlp.jsonl and expected.json").add_argument("directory")
    commands.add_parser("check", help="compare answers with what is expected").add_argument("answers")
    asked = parser.parse_args()
    if asked.command == "export":
        suite.export(Path(asked.directory))
        sys.stdout.write(f"{len(suite.load())} cases in {asked.directory}\n")
        return 0
    return check(json.loads(Path(asked.answers).read_text(encoding="utf-8")))


def check(answers: dict[str, dict[str, dict[str, object]]]) -> int:
    """Print every difference and how many cases conform."""
    conform = 0
    for case in suite.load():
        said = answers.get(case.name)
        if said is None:
            differences = [f"{case.name}: no answer"]
        else:
            answer = suite.Answer(said.get("totals", {}), said.get("spans", {}))  # type: ignore[arg-type]
            differences = suite.differences(case, answer)
        conform += not differences
        for line in differences:
            sys.stdout.write(line + "\n")
    sys.stdout.write(f"{conform} of {len(suite.load())} cases conform\n")
    return int(conform < len(suite.load()))


if __name__ == "__main__":
    sys.exit(main())
