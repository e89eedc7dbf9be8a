"""`otel-cost prices push` and `otel-cost reprice` as a person runs them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from otel_cost.pricing import PriceBook
from otel_cost.store import open_store
from tests.cli.test_price import run
from tests.clickhouse import spans
from tests.clickhouse.test_reprice import NEW, OLD, call
from tests.stores import embedded


@pytest.fixture
def place(tmp_path: Path) -> dict[str, Any]:
    """A store with three calls at the old prices, owned by nobody, and a file with the new ones."""
    dsn = embedded(tmp_path / "store", has_prices=False)
    for name, text in (("old", OLD), ("new", NEW)):
        (tmp_path / f"{name}.yaml").write_text(text)
    with open_store(dsn) as store:
        store.push_prices(PriceBook.load([tmp_path / "old.yaml"]))
        spans.insert(store, [call(1), call(2, "newcomer"), call(3, "gpt-4o-mini", "openai")])
    return {"dsn": dsn, "OTEL_COST_PRICES": str(tmp_path / "new.yaml")}


def test_prices_come_and_calls_follow(place: dict[str, Any]) -> None:
    """Push, a dry run, the run and its undoing, each told in a few lines."""
    dsn, prices = place["dsn"], {"OTEL_COST_PRICES": place["OTEL_COST_PRICES"]}
    for words in (("--dry-run",), ()):
        pushed = run("prices", "push", "--store", dsn, *words, **prices)
        assert pushed.returncode == 0, pushed.stderr
        assert f"prices {'would become' if words else 'are now'}: " in pushed.stdout
        assert "models: 1 added, 2 changed, 0 removed" in pushed.stdout
        assert "tools: 2 added, 0 changed, 0 removed" in pushed.stdout
        assert "added house / large from 2026-06-01: " in pushed.stdout
        assert "input_tokens none -> 2 per million" in pushed.stdout
    told = run("reprice", "--since", "all", "--dry-run", "--dsn", dsn)
    # 7,200 millionths become 3,600, and 1,400 were unknown; 270 stay
    amounts = "2 of 3 calls: 0.00747 USD before, 0.00527 after, difference -0.0022"
    assert (told.returncode, told.stderr) == (0, "")
    assert f"would change {amounts}" in told.stdout
    done = run("reprice", "--since", "2026-06-01", "--dsn", dsn, "--json", "--reason", "June")
    report = json.loads(done.stdout)
    assert (report["reason"], report["state"], report["difference_usd"]) == ("June", "done", "-0.0022")
    assert [each["model"] for each in report["models"]] == ["large", "newcomer", "gpt-4o-mini"]
    again = run("reprice", "--since", "all", "--dsn", dsn)
    assert "changed 0 of 3 calls" in again.stdout
    undone = run("reprice", "--undo", report["run_id"], "--dsn", dsn)
    assert "changed 2 of 3 calls: 0.00527 USD before, 0.00747 after" in undone.stdout


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "give one of --since, --resume RUN and --undo RUN"),
        (("--since", "all", "--undo", "x"), "give one of"),
        (("--since", "soon"), "--since 'soon' is not a period"),
        (("--since", "all", "--until", "later"), "--until 'later' is not a period"),
        (("--undo", "x", "--model", "gpt-4o"), "give no other choice"),
        (("--resume", "x", "--dry-run"), "give no other choice"),
    ],
)
def test_bad_arguments_are_told(tmp_path: Path, arguments: tuple[str, ...], told: str) -> None:
    """One line says what is wrong, before a store is opened."""
    done = run("reprice", *arguments, "--store", f"chdb://{tmp_path}/store")
    assert done.returncode == 2
    assert told in done.stderr
    assert not (tmp_path / "store").exists()


def test_unknown_runs_and_empty_stores_are_told(place: dict[str, Any], tmp_path: Path) -> None:
    """What is missing is named."""
    for option in ("--undo", "--resume"):
        done = run("reprice", option, "nothing", "--store", place["dsn"])
        assert (done.returncode, "there is no repricing 'nothing'; the latest are: none" in done.stderr) == (
            2,
            True,
        )
    for command in (("reprice", "--since", "all"), ("prices", "push")):
        done = run(*command, "--store", f"chdb://{tmp_path.resolve()}/other")
        assert (done.returncode, "there is nothing at" in done.stderr) == (2, True)
