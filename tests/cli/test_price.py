"""`otel-cost price` and `otel-cost prices` as a person uses them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.data import lines


def run(*arguments: str, stdin: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the command."""
    return subprocess.run(
        [sys.executable, "-c", "from otel_cost.cli.main import main; main()", *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "COLUMNS": "120", **variables},
    )


def batch(*calls: object, **variables: str) -> tuple[list[dict[str, Any]], int]:
    """Price calls as lines of JSON; the results and the exit code."""
    text = "".join(call if isinstance(call, str) else json.dumps(call) + "\n" for call in calls)
    done = run("price", "--batch", "-", stdin=text, **variables)
    return [json.loads(line) for line in done.stdout.splitlines()], done.returncode


def test_a_call_is_priced() -> None:
    """1,000 input tokens of which 600 cached and 200 output of GPT-4o, at 2.50, 1.25 and 10 USD per million
    (https://platform.openai.com/docs/pricing): 400 x 2.5 + 600 x 1.25 + 200 x 10 = 3,750 millionths."""
    done = run(
        *("price", "--model", "gpt-4o", "--provider", "openai", "--at", "2026-01-31"),
        *("--input-tokens", "1000", "--cache-read-tokens", "600"),
        *("--output-tokens", "200", "--reasoning-tokens", "150"),
    )
    assert done.returncode == 0
    assert done.stdout.startswith("$0.00375 priced: openai / gpt-4o, rates of 2026-01-31\n")
    assert "reasoning_tokens" in done.stdout


def test_a_call_is_priced_as_json() -> None:
    """Amounts are texts of plain digits, so no reader rounds them."""
    done = run("price", "--model", "gpt-4o", "--input-tokens", "3", "--at", "2026-01-31", "--json")
    priced = json.loads(done.stdout)
    assert priced["cost_usd"] == priced["list_cost_usd"] == "0.0000075"
    assert priced["lines"] == [{"bucket": "input_tokens", "units": 3, "usd_per_unit": "0.0000025"}]
    assert priced["source"].startswith("https://")


def test_a_date_decides() -> None:
    """o3 cost 10 USD per million before 2025-06-10 and 2 from then on (https://openai.com/api/pricing)."""
    costs = [
        json.loads(run("price", "--model", "o3", "--input-tokens", "1000000", "--at", at, "--json").stdout)
        for at in ("2025-06-09", "2025-06-10T00:00:00Z")
    ]
    assert [cost["cost_usd"] for cost in costs] == ["10", "2"]


def test_an_unknown_model_is_unpriced_and_fails() -> None:
    """No amount is printed, and scripts see it."""
    done = run("price", "--model", "no-such-model", "--input-tokens", "1")
    assert (done.returncode, done.stdout) == (1, "unpriced: no price for this model\n")


def test_a_batch_gives_a_line_for_each_line_in_order() -> None:
    """Priced, unpriced and broken lines each get their result; the command fails after the last."""
    results, code = batch(
        {
            "id": 1,
            "provider": "openai",
            "model": "gpt-4o",
            "usage": {"input_tokens": 10},
            "date": "2026-01-31",
        },
        {"id": 2, "provider": "openai", "model": "no-such-model", "usage": {"input_tokens": 10}},
        {"id": 3, "provider": "openai", "model": "gpt-4o", "usage": None},
        {"id": 4, "provider": "openai", "model": "gpt-4o"},
        "{broken\n",
        {"model": "gpt-4o", "usage": {"input_tokens": "ten"}},
        {"model": "gpt-4o", "usage": {"input_tokens": 1}, "date": "yesterday"},
        {"usage": {}},
        {"id": 9, "provider": None, "model": "o3-mini", "usage": {"input_tokens": 0}},
    )
    assert code == 1
    assert [result["status"] for result in results] == [
        "priced",
        "unpriced",
        "unpriced",
        "unpriced",
        "error",
        "error",
        "error",
        "error",
        "priced",
    ]
    assert results[0]["cost_usd"] == "0.000025"
    assert [result["cost_usd"] for result in results[1:4]] == [None] * 3
    assert results[4]["error"].startswith("line 5: is not JSON")
    assert "input_tokens='ten'" in results[5]["error"]
    assert "date='yesterday' is not a date; write 2026-01-31" in results[6]["error"]
    assert "'model' is missing" in results[7]["error"]
    assert (results[8]["id"], results[8]["cost_usd"]) == (9, "0")


def test_a_sound_batch_succeeds() -> None:
    """Unpriced lines are results, not failures."""
    assert batch({"model": "no-such-model", "usage": {"input_tokens": 10}})[1] == 0


def test_the_bill_of_openrouter_is_believed() -> None:
    """What was billed is the cost, beside the list price; with one's own key, upstream's part is added."""
    call = {"provider": "openrouter", "model": "openai/gpt-4o-mini", "usage": {"input_tokens": 1000}}
    billed, own_key, zero, elsewhere = batch(
        {**call, "raw_usage": {"cost": 0.00123}},
        {
            **call,
            "raw_usage": {"cost": 0.5, "is_byok": True, "cost_details": {"upstream_inference_cost": 0.25}},
        },
        {**call, "raw_usage": {"cost": 0}},
        {**call, "provider": "openai", "model": "gpt-4o-mini", "raw_usage": {"cost": 0.00123}},
    )[0]
    assert (billed["status"], billed["cost_usd"], billed["list_cost_usd"]) == (
        "provided",
        "0.00123",
        "0.00015",
    )
    assert (own_key["status"], own_key["cost_usd"]) == ("provided", "0.75")
    assert (zero["status"], zero["cost_usd"]) == ("priced", "0.00015")
    assert (elsewhere["status"], elsewhere["cost_usd"]) == ("priced", "0.00015")


def test_vectors_go_through_as_they_are() -> None:
    """Each of the recorded vectors gets a cost: none is an error, none is without a price."""
    text = "".join(lines("price_vectors/vectors.jsonl"))
    done = run("price", "--batch", "-", stdin=text)
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0
    assert [result["id"] for result in results] == [json.loads(line)["id"] for line in text.splitlines()]
    assert {result["status"] for result in results} == {"priced", "estimated", "provided"}
    assert all("E" not in result["cost_usd"] for result in results)


def test_a_batch_comes_from_a_file(tmp_path: Path) -> None:
    """A file that is not there is named."""
    path = tmp_path / "calls.jsonl"
    path.write_text('{"model": "gpt-4o", "usage": {"input_tokens": 4}}\n')
    assert json.loads(run("price", "--batch", str(path)).stdout)["cost_usd"] == "0.00001"
    done = run("price", "--batch", str(tmp_path / "none"))
    assert done.returncode == 2
    assert "cannot be read" in done.stderr


@pytest.mark.parametrize("arguments", [(), ("--model", "gpt-4o", "--batch", "-")])
def test_model_or_batch_is_needed(arguments: tuple[str, ...]) -> None:
    """One of the two, and a word about it otherwise."""
    done = run("price", *arguments)
    assert done.returncode == 2
    assert "--model or --batch" in done.stderr


def test_price_files_come_from_the_environment(tmp_path: Path) -> None:
    """OTEL_COST_PRICES names files as PATH does; a mistake in one is told without a traceback."""
    path = tmp_path / "prices.yaml"
    path.write_text("models: [{model: house, rates: {input_usd_per_mtok: 1}}]")
    results, _ = batch(
        {"model": "house", "usage": {"input_tokens": 5}}, OTEL_COST_PRICES=f"{path}{os.pathsep}"
    )
    assert results[0]["cost_usd"] == "0.000005"
    path.write_text("models: [{model: house}]")
    done = run("prices", "check", OTEL_COST_PRICES=str(path))
    assert done.returncode == 2
    assert f"{path}:1: " in done.stderr
    assert "Traceback" not in done.stderr


def test_the_book_is_listed() -> None:
    """Models with the rates in force, of one provider, by a part of their name."""
    done = run("prices", "list", "--provider", "openai.chat", "--model", "gpt-4o-mini", "--json")
    rows = json.loads(done.stdout)
    assert {row["provider"] for row in rows} == {"openai"}
    found = next(row for row in rows if row["model"] == "gpt-4o-mini")
    assert found["usd_per_mtok"]["input_tokens"] == "0.15"
    assert "models; USD per million tokens" in run("prices", "list", "--provider", "voyageai").stdout


def test_a_model_is_shown_with_its_history() -> None:
    """Every date, threshold and tier, for the entry that the name means."""
    shown = json.loads(run("prices", "show", "claude-opus-4-6", "--provider", "anthropic", "--json").stdout)
    standard = [row for row in shown["rates"] if row["service_tier"] == ""]
    assert [(row["since"], row["above_input_tokens"]) for row in standard] == [
        ("always", 0),
        ("always", 200_000),
        ("2026-03-13", 0),
    ]
    assert standard[1]["rates"]["input_tokens"] == "10"
    assert "batch" in {row["service_tier"] for row in shown["rates"]}
    assert run("prices", "show", "no-such-model").returncode == 2


def test_the_age_of_the_book_is_checked() -> None:
    """A book without a change for too long fails the check."""
    fine = run("prices", "check", "--max-age-days", "100000", "--json")
    assert fine.returncode == 0
    assert json.loads(fine.stdout)["models"] > 2000
    assert "to update" in run("prices", "check").stdout
    old = run("prices", "check", "--max-age-days", "0")
    assert old.returncode == 0 or "--max-age-days allows 0" in old.stderr


def test_options_that_cannot_be_are_named() -> None:
    """A date that is none, and parts above their whole: bad input, told by the option's name."""
    date = run("price", "--model", "gpt-4o", "--input-tokens", "3", "--at", "yesterday")
    assert (date.returncode, date.stdout) == (2, "")
    assert "--at 'yesterday' is not a date; write 2026-01-31" in date.stderr
    parts = run("price", "--model", "gpt-4o", "--input-tokens", "10", "--cache-read-tokens", "20")
    assert (parts.returncode, parts.stdout) == (2, "")
    assert "--cache-read-tokens" in parts.stderr
    assert "--input-tokens" in parts.stderr


@pytest.mark.skipif(find_spec("genai_prices") is None, reason="genai-prices needs Python 3.11")
def test_the_book_can_be_written_and_used(tmp_path: Path) -> None:
    """A catalogue written elsewhere takes the place of the shipped one."""
    path = tmp_path / "catalogue.json"
    assert run("prices", "update", "--output", str(path)).returncode == 0
    results, _ = batch({"model": "gpt-4o", "usage": {"input_tokens": 4}}, OTEL_COST_PRICES=str(path))
    assert results[0]["cost_usd"] == "0.00001"


def test_models_seen_without_a_price_are_listed(tmp_path: Path) -> None:
    """What a store has no price for is listed, and whether a price file has one by now."""
    values = {
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "house-model",
        "gen_ai.operation.name": "chat",
    }
    attributes: list[object] = [
        {"key": key, "value": {"stringValue": value}} for key, value in values.items()
    ]
    attributes += [
        {"key": f"gen_ai.usage.{side}_tokens", "value": {"intValue": "5"}} for side in ("input", "output")
    ]
    begins = 1_790_000_000 * 10**9
    span = {
        "traceId": "0" * 31 + "1",
        "spanId": "0" * 15 + "1",
        "name": "chat house-model",
        "kind": 3,
        "startTimeUnixNano": str(begins),
        "endTimeUnixNano": str(begins + 10**9),
        "attributes": attributes,
    }
    spans = tmp_path / "spans.jsonl"
    spans.write_text(json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}) + "\n")
    store = f"chdb://{tmp_path / 'store'}"
    imported = run("import", str(spans), "--store", store)
    assert imported.returncode == 0, imported.stderr
    (seen,) = json.loads(run("prices", "check", "--store", store, "--json").stdout)["unpriced"]
    assert (seen["provider"], seen["model"], seen["calls"], seen["is_priced_now"]) == (
        "openai",
        "house-model",
        1,
        False,
    )
    prices = tmp_path / "prices.yaml"
    prices.write_text("models: [{model: house-model, rates: {input_usd_per_mtok: 1}}]")
    checked = run("prices", "check", "--store", store, OTEL_COST_PRICES=str(prices))
    assert "has one in this book" in checked.stdout


def test_a_store_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    """Checking prices writes nothing."""
    checked = run("prices", "check", "--store", f"chdb://{tmp_path / 'store'}", "--json")
    assert json.loads(checked.stdout)["unpriced"] == []
    assert list(tmp_path.iterdir()) == []
