"""What commands show on terminals of different widths, in pipes, and of data that is not meant well."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from otel_cost.cli import agents, price
from otel_cost.cli.console import Column, console, print_table, print_tree
from otel_cost.cli.doctor import Finding
from otel_cost.cli.reports import Subject, usd
from otel_cost.cli.text import plain, plain_lines
from tests.cli.terminal import MAIN, on_terminal

AMOUNT = re.compile(r"\$[\d.,]*\d")
LIMITS = {"OTEL_COST_BUDGET_USD": "1", "OTEL_COST_MAX_CALLS_PER_TOOL": "web_search=20,*=100"}


def piped(*arguments: str, **variables: str) -> str:
    """Run `otel-cost` into a pipe, and return what it writes."""
    done = subprocess.run(
        [sys.executable, "-c", MAIN, *arguments],
        capture_output=True,
        check=False,
        env={**os.environ, **variables},
    )
    assert b"Traceback" not in done.stderr, done.stderr
    return done.stdout.decode()


once_piped = cache(piped)
"""For what widths have in common: a pipe has none."""


def lines_of(shown: str, columns: int) -> Iterator[str]:
    """Yield the lines of a terminal, each of which must fit it."""
    for line in shown.splitlines():
        assert len(line) <= columns, line
        yield line


@pytest.mark.parametrize("columns", [80, 60])
def test_every_amount_and_id_of_a_report_is_whole(dsn: str, columns: int) -> None:
    """However narrow the terminal is, the lines fit it, and hold what a pipe gets: no digit is cut off."""
    commands = [("top", subject.value, "--since", "all") for subject in Subject]
    commands += [("decisions", "--since", "all")]
    for command in commands:
        whole = once_piped(*command, "--store", dsn)
        body = whole.partition("Costs leave")[0]
        wanted = AMOUNT.findall(body) + re.findall(r"\ba{32}\b|\brun-b\b|\d{4}-\d\d-\d\d \S+", body)
        assert wanted or "unknown" in whole, whole
        shown = on_terminal(columns, *command, "--store", dsn).partition("Costs leave")[0]
        words = re.split(r"  +|\n", "\n".join(lines_of(shown, columns)))
        for value in set(wanted):
            found = sum(value == word or word.endswith(f" {value}") for word in words)
            assert found >= wanted.count(value), (command, value, shown)


@pytest.mark.parametrize("columns", [80, 60])
def test_every_amount_and_id_of_a_trace_is_whole(dsn: str, columns: int) -> None:
    """A line of the tree that does not fit goes on below itself, and breaks between values."""
    for id in ("aaaa", "run-b"):
        told = json.loads(once_piped("trace", id, "--json", "--store", dsn))
        shown = on_terminal(columns, "trace", id, "--store", dsn).rpartition("total ")[0]
        lines = list(lines_of(shown, columns))
        assert f"trace {told['trace_ids'][0]}" in lines
        for span in told["spans"]:
            if span["cost_usd"]:
                amount = re.escape("$" + span["cost_usd"])
                assert any(re.search(rf"{amount}(?![\d.])", line) for line in lines), (amount, shown)


@pytest.mark.parametrize("columns", [80, 60])
def test_limits_are_explained_whole(columns: int, tmp_path: Path) -> None:
    """Which tool a limit is for is shown, whatever the width."""
    variables = {**LIMITS, "OTEL_COST_POLICY": ""}
    shown = on_terminal(columns, "budgets", "explain", variables=variables)
    words = "\n".join(lines_of(shown, columns)).split()
    assert "max_calls_per_tool.web_search" in words
    assert "max_calls_per_tool.*" in words
    assert "identical_calls" in words


def test_a_pipe_gets_a_line_for_each_row() -> None:
    """`prices list | grep` finds every name whole, on the line of its rates, whatever COLUMNS says."""
    rows = json.loads(piped("prices", "list", "--json"))
    lines = [line.split() for line in piped("prices", "list", COLUMNS="60").splitlines()[1:-1]]
    assert [line[1] for line in lines] == [row["model"] for row in rows]
    assert max(len(row["model"]) for row in rows) > 60


@pytest.mark.parametrize("columns", [20, 40, 60, 80, 200])
def test_texts_are_folded_before_a_row_becomes_a_paragraph(
    columns: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Names give way first; where amounts and ids alone are too wide, each value stands with its heading."""
    out = console()
    out.width = columns
    headings = (Column("name"), Column("id", is_whole=True), Column("cost", is_number=True))
    print_table(out, headings, [("a rather long name of somebody", "f" * 16, "$0.00888")])
    shown = capsys.readouterr().out
    assert "f" * 16 in shown
    assert "$0.00888" in shown
    assert all(len(line.rstrip()) <= columns for line in shown.splitlines())
    assert shown.startswith("name a" if columns < 44 else "name  ")


def test_a_deep_tree_still_shows_what_things_cost(capsys: pytest.CaptureFixture[str]) -> None:
    """Deeper than a terminal is wide and than Python's stack, each line keeps its amount."""
    from rich.text import Text

    out = console()
    out.width = 80
    print_tree(out, ((depth, True, [Text(f"span {depth}"), Text(usd(None))]) for depth in range(3000)))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3000
    assert all(line.endswith("unknown") and len(line) <= 80 for line in lines)


def test_an_encoding_without_our_characters_fails_nothing(dsn: str) -> None:
    """With the C locale trees are drawn in ASCII and other characters shown as escapes; JSON stays JSON."""
    locale = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    assert "`-- invoke_agent planner" in piped("trace", "aaaa", "--store", dsn, **locale)
    assert "ü" in piped("sql", "SELECT 'ü' AS x", "--store", dsn, **locale)
    limits = {"OTEL_COST_MAX_CALLS_PER_TOOL": "house-ü=3", "OTEL_COST_POLICY": ""}
    assert "max_calls_per_tool.house-\\u" in piped("budgets", "explain", **limits, **locale)
    priced = subprocess.run(
        [sys.executable, "-c", MAIN, "price", "--batch", "-"],
        input='{"model": "modèle", "usage": {}}'.encode(),
        capture_output=True,
        check=True,
        env={**os.environ, **locale},
    )
    assert json.loads(priced.stdout.decode("ascii"))["model"] == "modèle"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
        ("a\nb\tc\x07", "a\\nb\\tc\\x07"),
        ("\x9b2J\u202egnp", "\\x9b2J\\u202egnp"),
        ("[/b] :100: häuser 模型", "[/b] :100: häuser 模型"),
    ],
)
def test_a_terminal_obeys_nothing_of_the_data(text: str, shown: str) -> None:
    """Control characters are shown as escapes; brackets, codes and other scripts are what they are."""
    assert plain(text) == shown
    assert plain_lines("one\n" + text.replace("\n", " ").replace("\t", " ")).startswith("one\n")


def test_a_model_that_looks_like_markup_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    """Names of models, users and spans come from anybody: brackets are no style, codes no emoji."""
    for model in ("ft:[/b]house", "[red]nope[/red]", "bad:100:"):
        price._show_unpriced(
            [{"provider": "x", "model": model, "calls": 1, "last_seen_on": "today", "is_priced_now": False}]
        )
        assert f"x         {model}" in capsys.readouterr().out


def test_doctor_shows_what_it_found_as_it_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A finding about a model with brackets, and its remedy, are lines like others."""
    found = Finding("warn", "unpriced models", "acme/ft:[/b]house: 2 calls", "add [red]x[/red]\x1b[2J")
    monkeypatch.setattr("otel_cost.cli.doctor.examine", lambda store: [found])
    agents.doctor()
    assert [line.rstrip() for line in capsys.readouterr().out.splitlines()] == [
        "warn  unpriced models  acme/ft:[/b]house: 2 calls",
        "                       -> add [red]x[/red]\\x1b[2J",
    ]


def test_an_answer_of_a_query_is_shown_safely_and_piped_exactly(dsn: str) -> None:
    """On a terminal an escape character in the data is shown; a pipe gets the bytes."""
    command = ("sql", "SELECT unhex('1B5B324A') AS x", "--store", dsn)
    shown = on_terminal(80, *command)
    assert "\\x1b[2J" in shown
    assert "\x1b" not in shown
    assert piped(*command, "--format", "RawBLOB") == "\x1b[2J"
