"""`top`, `trace`, `decisions`, `sql` and `migrate` as a person runs them."""

from __future__ import annotations

import json
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest

from otel_cost.cli.reports import decimal_text, nothing_since, total_line, usd
from otel_cost.pricing import PriceBook
from otel_cost.store import open_store
from otel_cost.store.period import EPOCH, parse_since
from tests.clickhouse import spans


def run(*arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
    """Run `otel-cost` in a process of its own, with something to read on standard input."""
    command = [sys.executable, "-c", "from otel_cost.cli.main import main; main()", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, input=given)


def test_top_lists_the_dearest_first(dsn: str) -> None:
    """Dollars with every digit below one, unpriced calls beside them, and what is left out."""
    done = run("top", "users", "--since", "2026-06-01", "--store", dsn)
    assert done.returncode == 0, done.stderr
    bob, ann = [line.split() for line in done.stdout.splitlines()[1:3]]
    assert (bob[0], bob[1], bob[5]) == ("bob", "$0.0035", "1")
    assert (ann[0], ann[1], ann[5]) == ("ann", "$0.000225", "0")
    assert "leave unpriced calls out" in done.stdout


def test_an_unknown_price_is_never_zero(dsn: str) -> None:
    """A model and a tool without a price say so."""
    models = run("top", "models", "--since", "2026-06-01", "--store", dsn).stdout
    tools = run("top", "tools", "--since", "2026-06-01", "--store", dsn).stdout
    assert "unknown" in next(line for line in models.splitlines() if "acme-1" in line)
    assert "unknown" in next(line for line in tools.splitlines() if "web_search" in line)
    assert "$0.00 " not in models + tools


def test_nothing_known_but_refusals_is_unknown() -> None:
    """A sum of 0 beside calls without a price is no total; where all calls were refused it is one."""
    total = {"model_calls": 2, "tool_calls": 0, "input_tokens": 0, "output_tokens": 0, "not_counted": 0}
    refused = total_line({**total, "cost_usd": Decimal(0), "unpriced_calls": 0})
    assert refused == "total $0.00  2 model calls  0 tool calls  0 in, 0 out"
    assert total_line({**total, "cost_usd": Decimal(0), "unpriced_calls": 1}).startswith(
        "total unknown  2 model"
    )


def test_json_is_exact(dsn: str) -> None:
    """`--json` gives money as exact text and NULL where it is unknown."""
    rows = json.loads(run("top", "models", "--since", "2026-06-01", "--json", "--store", dsn).stdout)
    assert [(row["model"], row["cost_usd"]) for row in rows] == [
        ("gpt-4o-2024-08-06", "0.0035"),
        ("gpt-4o-mini", "0.000225"),
        ("acme-1", None),
    ]


def test_a_trace_is_found_by_its_beginning(dsn: str) -> None:
    """The tree shows each span with its cost, why one does not count, and the total."""
    done = run("trace", "aaaa", "--store", dsn)
    assert done.returncode == 0, done.stderr
    assert "invoke_agent planner" in done.stdout
    assert "$0.000225" in done.stdout
    assert "not counted: duplicate_response_id" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("total $0.000225  1 model calls  1 tool calls")


def test_an_execution_is_found_by_its_id(dsn: str) -> None:
    """An execution id leads to its traces."""
    shown = json.loads(run("trace", "run-b", "--json", "--store", dsn).stdout)
    assert shown["trace_ids"] == ["b" * 32]
    assert shown["total"]["cost_usd"] == "0.0035"
    assert shown["total"]["unpriced_calls"] == 1


def test_an_execution_of_many_traces_is_totalled_whole(tmp_path: Path) -> None:
    """A hundred trees are shown, and how many are not; the total is of all: 102 x 1,000 x 0.15 USD a million.

    https://openai.com/api/pricing (2026-11)
    """
    pytest.importorskip("chdb")
    where = f"chdb://{tmp_path.resolve()}"
    call = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o-mini",
        "gen_ai.usage.input_tokens": 1000,
        "otel_cost.execution.id": "run-many",
    }
    with open_store(where) as store:
        store.migrate()
        store.push_prices(PriceBook.load())
        spans.insert(store, [spans.of_attributes(number, call) for number in range(1, 103)])
    lines = run("trace", "run-many", "--store", where).stdout.splitlines()
    assert sum(line.startswith("trace ") for line in lines) == 100
    assert lines[-2] == "2 more traces are not shown, and are in the total"
    assert lines[-1].startswith("total $0.0153  102 model calls")
    told = json.loads(run("trace", "run-many", "--json", "--store", where).stdout)
    assert (len(told["trace_ids"]), told["traces_not_shown"]) == (100, 2)
    assert told["total"]["cost_usd"] == "0.0153"


def test_a_trace_shows_what_the_guard_decided_where_it_did(dsn: str) -> None:
    """Below the span that was refused stand the warning and the refusals, each on a line with its reason."""
    lines = run("trace", "run-b", "--store", dsn).stdout.splitlines()
    (at,) = [number for number, line in enumerate(lines) if "chat acme-1" in line]
    shown = [line.strip(" │├└─") for line in lines[at + 1 : at + 4]]
    assert shown == [
        "warn budget_usd (enforce): execution:run-b has spent $0.0035 of $0.0040",
        "deny budget_usd (enforce): execution run-b may spend $0.004",
        "deny retry_storm (enforce)",
    ]
    (shadow,) = [line for line in run("trace", "aaaa", "--store", dsn).stdout.splitlines() if "deny" in line]
    assert "deny max_tool_calls (shadow): max_tool_calls: 1 tool calls, where 0 are allowed" in shadow
    told = json.loads(run("trace", "run-b", "--json", "--store", dsn).stdout)["decisions"]
    assert [each["decision"] for each in told] == ["warn", "deny", "deny"]


def test_decisions_are_listed_latest_first(dsn: str) -> None:
    """Amounts are exact, those not told are no zero; one execution can be asked for, and a time."""
    done = run("decisions", "--since", "2026-06-01", "--store", dsn)
    assert done.returncode == 0, done.stderr
    first, second, third, fourth = [line.split() for line in done.stdout.splitlines()[1:]]
    assert first[2:] == [
        "run-b",
        "deny",
        "budget_usd",
        "enforce",
        "$0.004",
        "$0.0035",
        "$0.000500000001",
        "acme-1",
    ]
    assert second[2:] == ["run-b", "deny", "retry_storm", "enforce", "$0.004", "$0.0035", "-", "-"]
    assert third[2:5] == ["run-b", "warn", "budget_usd"]
    assert fourth[2:] == [
        "a" * 32,
        "deny",
        "max_tool_calls",
        "shadow",
        "-",
        "$0.000225",
        "$0.00",
        "gpt-4o-mini",
    ]
    asked = ("decisions", "--since", "all", "--execution", "a" * 32, "--json", "--store", dsn)
    (only,) = json.loads(run(*asked).stdout)
    assert (only["kind"], only["user_id"], only["limit_usd"]) == ("max_tool_calls", "ann", None)
    assert "No decisions since" in run("decisions", "--since", "2026-06-02", "--store", dsn).stdout


def test_top_says_which_executions_were_killed_and_why(dsn: str) -> None:
    """The limit that stopped one is named; a refusal in mode shadow stopped nothing."""
    rows = json.loads(run("top", "executions", "--since", "2026-06-01", "--json", "--store", dsn).stdout)
    assert {row["execution_id"]: (row["status"], row["killed_reason"]) for row in rows} == {
        "run-b": ("killed", "budget_usd"),
        "a" * 32: ("ok", ""),
    }
    shown = run("top", "executions", "--since", "2026-06-01", "--store", dsn).stdout
    assert "killed for" in shown.splitlines()[0]
    assert "budget_usd" in next(line for line in shown.splitlines() if "run-b" in line)


def test_what_is_not_there_fails(dsn: str, tmp_path: Path) -> None:
    """Bad input, an unknown id too, is 2; the message says what to do, without a traceback."""
    unknown = run("trace", "ffff", "--store", dsn)
    assert (unknown.returncode, unknown.stdout) == (2, "")
    nameless = run("trace", "", "--store", dsn)
    assert (nameless.returncode, nameless.stderr[:24]) == (2, "otel-cost: the id is emp")
    assert "otel-cost top executions" in unknown.stderr
    bad = run("top", "users", "--since", "yesterday", "--store", dsn)
    assert bad.returncode == 2
    assert "write 24h, 7d" in bad.stderr
    empty = run("top", "users", "--store", f"chdb://{tmp_path / 'none'}")
    assert empty.returncode == 2
    assert f"there is nothing at {tmp_path / 'none'} yet" in empty.stderr
    assert not (tmp_path / "none").exists()
    assert "Traceback" not in unknown.stderr + bad.stderr + empty.stderr


@pytest.mark.parametrize(
    "command", [("top", "users"), ("migrate",), ("up", "--background"), ("move", "--to")]
)
def test_a_store_that_cannot_be_a_directory_is_named(command: tuple[str, ...], tmp_path: Path) -> None:
    """A file in its place, or a place where none can be made: one sentence, the path, and where it is set."""
    file = tmp_path / "file"
    file.touch()
    for path in (file, file / "below", Path("/sys/otel-cost")):
        given = ("clickhouse://127.0.0.1:9/x", "--from") if command[0] == "move" else ("--store",)
        done = run(*command, *given, f"chdb://{path}")
        assert done.returncode == 2, done.stderr
        assert str(path) in done.stderr
        assert "OTEL_COST_STORE" in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_a_server_that_cannot_be_reached_is_told_in_one_line() -> None:
    """What was typed without the password, the cause and the remedy; the driver's own words are left out."""
    for dsn, cause in (
        ("clickhouse://me:secret@127.0.0.1:9/x", "nothing listens there"),
        ("clickhouse://no-such-host.invalid/x", "there is no such host"),
    ):
        done = run("top", "users", "--store", dsn)
        assert (done.returncode, len(done.stderr.splitlines())) == (1, 1), done.stderr
        assert f"cannot reach {dsn.replace(':secret', '')}: {cause}; " in done.stderr


def test_a_move_needs_a_server(dsn: str, tmp_path: Path) -> None:
    """Two embedded stores are refused before either is opened or made."""
    done = run("move", "--from", dsn, "--to", f"chdb://{tmp_path / 'new'}")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "--to" in done.stderr
    assert "clickhouse://" in done.stderr
    assert not (tmp_path / "new").exists()


def test_sql_reads_in_any_format_and_changes_nothing(dsn: str) -> None:
    """A query of one's own answers; a statement that would change something is refused."""
    query = "SELECT count() AS n FROM charges FINAL WHERE counted"
    assert run("sql", query, "--format", "JSONEachRow", "--store", dsn).stdout == '{"n":4}\n'
    refused = run("sql", "DROP TABLE charges", "--store", dsn)
    assert refused.returncode == 1
    assert "Traceback" not in refused.stderr
    assert run("sql", query, "--format", "CSV", "--store", dsn).stdout == "4\n"


def test_sql_says_that_a_query_is_empty(dsn: str) -> None:
    """In a sentence with an example."""
    done = run("sql", "  ;", "--store", dsn)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    assert "the query is empty" in done.stderr


@pytest.mark.parametrize("end", ["FORMAT CSV", "format CSV ;\n"])
def test_sql_takes_the_format_that_a_query_ends_with(dsn: str, end: str) -> None:
    """As people paste it from elsewhere."""
    assert run("sql", f"SELECT 1, 2 {end}", "--store", dsn).stdout == "1,2\n"


def test_looking_further_back_is_proposed_where_it_is_possible() -> None:
    """A period that is everything has no further."""
    assert nothing_since("No spending", EPOCH) == "No spending at all."
    assert nothing_since("No spending", parse_since("7d")).endswith("Try --since all.")


def test_sql_takes_parameters(dsn: str) -> None:
    """They travel beside the query, quotes and all; what is missing or misspelt is told in a sentence."""
    query = "-- Reads charges.\nSELECT {name:String} AS name, {n:UInt32} + 1 AS n"
    given = ("--param", "name=it's a=b", "--param", "n=2", "--format", "JSONEachRow", "--store", dsn)
    assert run("sql", query, *given).stdout == '{"name":"it\'s a=b","n":3}\n'
    assert run("sql", "-", *given, given=query).stdout == '{"name":"it\'s a=b","n":3}\n'
    missing = run("sql", query, "--param", "n=2", "--store", dsn)
    wrong = run("sql", query, "--param", "name", "--store", dsn)
    unknown = run("sql", query, "--parm", "n=2", "--store", dsn)
    assert (missing.returncode, wrong.returncode, unknown.returncode) == (1, 2, 2)
    assert "name" in missing.stderr
    assert "'name' is not NAME=VALUE" in wrong.stderr
    assert "--parm" in unknown.stderr
    assert "Traceback" not in missing.stderr + wrong.stderr + unknown.stderr


def test_migrate_is_done_once(tmp_path: Path) -> None:
    """The first run names what it applied, the second has nothing to do."""
    pytest.importorskip("chdb")
    where = ("--dsn", f"chdb://{tmp_path.resolve()}")
    first = json.loads(run("migrate", "--json", *where).stdout)
    assert "migrations/0006_create_charges" in first["applied"]
    assert json.loads(run("migrate", "--json", *where).stdout) == {"applied": []}


@pytest.mark.parametrize(
    ("amount", "shown"),
    [
        ("0.000000000001", "$0.000000000001"),
        ("0.1", "$0.10"),
        ("0", "$0.00"),
        ("0.99999", "$0.99999"),
        ("1", "$1.00"),
        ("1234567.891", "$1,234,567.89"),
    ],
)
def test_dollars_as_a_person_reads_them(amount: str, shown: str) -> None:
    """Cents from a dollar up, every digit below, unknown when there is no amount."""
    assert usd(Decimal(amount)) == shown
    assert usd(None) == "unknown"


@pytest.mark.parametrize(("amount", "text"), [("1E-12", "0.000000000001"), ("100", "100"), ("0.50", "0.5")])
def test_amounts_in_json(amount: str, text: str) -> None:
    """Never an exponent, no trailing zeros, no digit lost."""
    assert decimal_text(Decimal(amount)) == text
