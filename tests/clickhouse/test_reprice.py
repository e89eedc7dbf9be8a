"""Charges priced again cost what they would have cost had the book been there when they came."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple
from datetime import datetime, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from otel_cost.errors import ConfigError, StoreError
from otel_cost.pricing import SNAPSHOT, PriceBook
from otel_cost.server.otlp_json import flatten
from otel_cost.server.spans import to_columns
from otel_cost.store import Store, open_store, reprice
from otel_cost.store.reprice import Asked, Report
from tests.clickhouse import spans
from tests.clickhouse.conftest import empty, set_refreshing
from tests.clickhouse.test_agreement import _said_by_python, _said_by_sql
from tests.conformance import suite

OLD = """
models:
  - {provider: house, model: large, rates: {input_usd_per_mtok: 4, output_usd_per_mtok: 16}}
"""
NEW = """
models:
  - provider: house
    model: large
    dated:
      - rates: {input_usd_per_mtok: 4, output_usd_per_mtok: 16}
      - valid_from: 2026-06-01
        rates: {input_usd_per_mtok: 2, output_usd_per_mtok: 8}
        tiers: [{above_input_tokens: 200_000, input_usd_per_mtok: 3, output_usd_per_mtok: 12}]
        service_tiers: {batch: {multiplier: 0.5}}
  - {provider: house, model: newcomer, rates: {input_usd_per_mtok: 1, output_usd_per_mtok: 2}}
tools:
  - {name: search, usd_per_call: 0.008}
  - {name: ocr, usd_per_unit: 0.0015, unit_attribute: ocr.pages}
discounts:
  - {provider: openai, model: gpt-4o, discount_ratio: 0.15}
"""
CHEAPER = """
models:
  - {model: gpt-4o, provider: openai, rates: {input_usd_per_mtok: 1.7, output_usd_per_mtok: 3.33}}
  - model: gpt-4o-mini
    rates: {input_usd_per_mtok: 0.07, cache_read_usd_per_mtok: 0.01, output_usd_per_mtok: 0.3}
discounts:
  - {provider: anthropic, discount_ratio: 0.123}
  - {provider: openai, discount_ratio: 0.07}
tools:
  - {name: search, usd_per_call: 0.011}
"""
"""Other prices of what the conformance suite and the recorded spans call."""
MAKERS = {"anthropic", "deepseek", "google", "openai"}
"""Whose models the tests of this module call."""
NOT_COMPARED = ("version", "price_version")


def make_books(directory: Path) -> dict[str, PriceBook]:
    """Return the books of this module by name; one without files is `shipped`.

    `old` and `new`, which most tests push after each other, have a fifth of the shipped prices.
    """
    few = directory / "few.json"
    catalogue = json.loads(SNAPSHOT.read_bytes())
    for name in catalogue["providers"].keys() - MAKERS:
        catalogue["providers"][name] |= {"models": {}, "fallback": []}
    few.write_text(json.dumps(catalogue))
    made = {"shipped": PriceBook.load()}
    for name, text, snapshot in (("old", OLD, few), ("new", NEW, few), ("cheaper", CHEAPER, SNAPSHOT)):
        file = directory / f"{name}.yaml"
        file.write_text(text)
        made[name] = PriceBook.load([file], snapshot=snapshot)
    return made


@pytest.fixture
def books(tmp_path: Path) -> dict[str, PriceBook]:
    """The books of this module by name."""
    return make_books(tmp_path)


def call(number: int, model: str = "large", provider: str = "house", **said: Any) -> spans.Request:
    """Return a request of one model call: 1,000 tokens in, 200 out, and what else it says."""
    attributes = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": provider,
        "gen_ai.request.model": model,
        "gen_ai.usage.input_tokens": 1000,
        "gen_ai.usage.output_tokens": 200,
    }
    attributes |= {name.replace("__", "."): value for name, value in said.items()}
    return request(number, attributes)


def request(number: int, attributes: dict[str, Any], trace: int = 0, parent: int = 0) -> spans.Request:
    """Return a request of one span, in a trace of its own unless told otherwise."""
    start = spans.STARTED_NS + number * 10**6
    made = spans._request(
        "app", f"{trace or number:032x}", f"{number:016x}", (start, start + 10**9), attributes
    )
    if parent:
        made["resourceSpans"][0]["scopeSpans"][0]["spans"][0]["parentSpanId"] = f"{parent:016x}"
    return made


def tool(number: int, name: str, **said: Any) -> spans.Request:
    """Return a request of one tool call."""
    told = {key.replace("__", "."): value for key, value in said.items()}
    return request(number, {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": name, **told})


def agent(
    number: int, trace: int, model: str = "large", tokens: tuple[int, int] = (2000, 400)
) -> spans.Request:
    """Return a request of an agent's span that says the sum of what it used."""
    attributes = {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.provider.name": "house",
        "gen_ai.request.model": model,
        "gen_ai.usage.input_tokens": tokens[0],
        "gen_ai.usage.output_tokens": tokens[1],
    }
    return request(number, attributes, trace)


def below(number: int, trace: int, parent: int, model: str = "large") -> spans.Request:
    """Return a request of a model call below another span."""
    inner = call(number, model)
    span = inner["resourceSpans"][0]["scopeSpans"][0]["spans"][0]
    span["traceId"], span["parentSpanId"] = f"{trace:032x}", f"{parent:016x}"
    return inner


def said(store: Store) -> dict[tuple[str, str], dict[str, Any]]:
    """Return every charge without when and by which book it was written."""
    found = spans.charges(store)
    return {key: {k: v for k, v in row.items() if k not in NOT_COMPARED} for key, row in found.items()}


def costs(store: Store) -> dict[int, tuple[str, str | None]]:
    """Return status and amount of every charge by the number of its span."""
    return {
        int(span_id, 16): (row["price_status"], _plain(row["cost_usd"]))
        for (_, span_id), row in sorted(spans.charges(store).items())
    }


def _plain(amount: Any) -> str | None:
    return None if amount is None else f"{Decimal(str(amount)).normalize():f}"


def total(store: Store) -> Decimal:
    """Return what counts, USD."""
    answer = store.sql("SELECT toString(sum(cost_usd)) FROM charges FINAL WHERE counted", fmt="TSV").decode()
    return Decimal(answer)


def figures(report: Report) -> list[tuple[Any, ...]]:
    """Return what a report says per model."""
    return [astuple(each) for each in report.models]


PROCESS_SAID = {"otel_cost.price.status": "priced", "otel_cost.cost_usd": "9"}
CASES: dict[int, tuple[spans.Request, tuple[str, str | None], tuple[str, str | None]]] = {
    # 1,000 x 4 + 200 x 16 = 7,200 millionths, and 1,000 x 2 + 200 x 8 = 3,600
    1: (call(1), ("priced", "0.0072"), ("priced", "0.0036")),
    # 1,000 x 1 + 200 x 2 = 1,400
    2: (call(2, "newcomer"), ("unpriced", None), ("priced", "0.0014")),
    # 200,000 x 4 + 3,200, and 200,000 x 2 + 1,600
    3: (call(3, gen_ai__usage__input_tokens=200_000), ("priced", "0.8032"), ("priced", "0.4016")),
    # one token more: 200,001 x 4 + 3,200, and 200,001 x 3 + 200 x 12
    4: (call(4, gen_ai__usage__input_tokens=200_001), ("priced", "0.803204"), ("priced", "0.602403")),
    # half of 3,600
    5: (call(5, openai__response__service_tier="batch"), ("estimated", "0.0072"), ("priced", "0.0018")),
    # GPT-4o: 1,000 x 2.5 + 200 x 10 = 4,500 (https://platform.openai.com/docs/pricing), less 15 %
    6: (call(6, "gpt-4o", "openai"), ("priced", "0.0045"), ("priced", "0.003825")),
    7: (tool(7, "Search"), ("unpriced", None), ("priced", "0.008")),
    # 3 x 0.0015
    8: (tool(8, "ocr", ocr__pages=3), ("unpriced", None), ("priced", "0.0045")),
    9: (tool(9, "ocr"), ("unpriced", None), ("unpriced", None)),
    # what a provider billed stays
    10: (call(10, gen_ai__usage__cost=0.5), ("provided", "0.5"), ("provided", "0.5")),
    # what a process wrote on its span does not
    11: (call(11, **PROCESS_SAID), ("priced", "9"), ("priced", "0.0036")),
    # GPT-4o mini: 1,000 x 0.15 + 200 x 0.60 = 270, in both books
    12: (call(12, "gpt-4o-mini", "openai"), ("priced", "0.00027"), ("priced", "0.00027")),
}  # fmt: skip
"""A span, what it costs by the old book, and what by the new one."""
REMAINDER = {20: ("0.0072", "0.0036"), 21: ("0.0072", "0.0036")}
"""An agent that used 2,000 and 400 tokens, 14,400 millionths and later 7,200, and the call below it."""


def fill(store: Store, books: dict[str, PriceBook]) -> None:
    """Store the cases at the old prices, and bring the new ones."""
    store.push_prices(books["old"])
    spans.insert(store, [*(case[0] for case in CASES.values()), agent(20, 20), below(21, 20, 20)])
    assert costs(store) == {n: case[1] for n, case in CASES.items()} | _remainder(0)
    store.push_prices(books["new"])


def _remainder(which: int) -> dict[int, tuple[str, str]]:
    return {number: ("priced", amounts[which]) for number, amounts in REMAINDER.items()}


def test_a_dry_run_tells_what_a_run_does(store: Store, books: dict[str, PriceBook]) -> None:
    """Every case by hand; a dry run changes nothing, and tells what a run and the charges tell."""
    fill(store, books)
    before, old_usd = said(store), total(store)
    told = reprice.reprice(store, Asked(), dry_run=True)
    assert said(store) == before
    done = reprice.reprice(store, Asked(), reason="the contract of June")
    assert costs(store) == {n: case[2] for n, case in CASES.items()} | _remainder(1)
    assert figures(told) == figures(done)
    assert (told.run.state, done.run.state) == ("dry_run", "done")
    # 9 stays without an amount but is known to be ocr now; 10 was billed, 12 is as it was
    counts = (done.run.charges, done.run.changed, done.run.newly_priced, done.run.newly_unpriced)
    assert counts == (13, 12, 3, 0)
    billed = Decimal("0.5")
    assert (done.run.old_cost_usd, done.run.new_cost_usd) == (old_usd - billed, total(store) - billed)
    # 1, 3, 4, 5, 11 and the agent's two: 0.0072 + 0.8032 + 0.803204 + 0.0072 + 9 + 0.0144, and the new ones
    large = next(each for each in done.models if each.model == "large")
    assert (large.old_cost_usd, large.new_cost_usd) == (Decimal("10.635204"), Decimal("1.020203"))
    (noted,) = reprice.runs(store, done.run.run_id)
    assert (noted.reason, noted.price_version) == ("the contract of June", books["new"].version)
    assert noted.new_cost_usd == done.run.new_cost_usd


def test_the_list_price_stays_beside_a_discount(store: Store, books: dict[str, PriceBook]) -> None:
    """`list_cost_usd` is before the discount, and the charge names the book."""
    fill(store, books)
    reprice.reprice(store, Asked(model="gpt-4o"))
    row = spans.charges(store)[f"{6:032x}", f"{6:016x}"]
    assert (_plain(row["cost_usd"]), _plain(row["list_cost_usd"])) == ("0.003825", "0.0045")
    assert row["price_version"] == books["new"].version
    assert costs(store)[1] == CASES[1][1]


@pytest.mark.parametrize(
    ("asked", "changed"),
    [
        (Asked(unpriced_only=True), {2, 7, 8}),
        (Asked(provider="OpenAI"), {6}),
        (Asked(model="newcomer"), {2}),
        (Asked(since=datetime(2026, 6, 1, 12, 0, 0, 7_000, timezone.utc), model="large"), {11, 20, 21}),
        (Asked(until=datetime(2026, 6, 1, 12, 0, 0, 3_000, timezone.utc)), {1, 2}),
    ],
    ids=["unpriced", "provider", "model", "since", "until"],
)
def test_only_what_is_asked_is_priced_again(
    store: Store, books: dict[str, PriceBook], asked: Asked, changed: set[int]
) -> None:
    """By time, half open, model, provider, and whether a price was known."""
    fill(store, books)
    reprice.reprice(store, asked)
    new = {number: case[2] for number, case in CASES.items()} | _remainder(1)
    old = {number: case[1] for number, case in CASES.items()} | _remainder(0)
    assert costs(store) == {number: (new if number in changed else old)[number] for number in old}


def test_a_run_can_be_undone(store: Store, books: dict[str, PriceBook]) -> None:
    """Each charge is as it was, which is on record, and undoing that brings the new amounts again."""
    fill(store, books)
    before = said(store)
    done = reprice.reprice(store, Asked())
    after = said(store)
    undone = reprice.undo(store, done.run.run_id, reason="wrong contract")
    assert said(store) == before
    assert reprice.find_run(store, done.run.run_id).state == "undone"
    assert undone.run.undoes_run_id == done.run.run_id
    assert (undone.run.difference_usd, undone.run.changed) == (-done.run.difference_usd, done.run.changed)
    reprice.undo(store, undone.run.run_id)
    assert said(store) == after
    with pytest.raises(ConfigError, match=f"{done.run.run_id} is undone"):
        reprice.undo(store, done.run.run_id)


def test_undoing_leaves_what_a_later_run_changed(store: Store, books: dict[str, PriceBook]) -> None:
    """The first run is undone for the charges that still have its amounts."""
    fill(store, books)
    first = reprice.reprice(store, Asked())
    store.push_prices(books["shipped"])
    reprice.reprice(store, Asked(model="large"))
    assert costs(store)[1] == ("unpriced", None)
    undone = reprice.undo(store, first.run.run_id)
    assert undone.run.changed == 5  # 2, 6, 7, 8, and 9, whose price entry is no longer known
    assert {n: costs(store)[n] for n in (1, 2, 6)} == {1: ("unpriced", None), 2: CASES[2][1], 6: CASES[6][1]}


def test_the_audit_holds_both_amounts(store: Store, books: dict[str, PriceBook]) -> None:
    """One row per charge that changed, old and new beside each other."""
    fill(store, books)
    done = reprice.reprice(store, Asked())
    answer = store.sql(
        "SELECT toUInt32(reinterpretAsUInt64(reverse(unhex(span_id)))) AS n, toString(old_cost_usd) AS o,"
        " toString(new_cost_usd) AS w, old_price_status AS s FROM repricings FINAL"
        " WHERE run_id = {run:String}",
        {"run": done.run.run_id},
    )
    rows = {row["n"]: (row["s"], row["o"], row["w"]) for row in map(json.loads, answer.splitlines())}
    expected = {n: (*old, new[1]) for n, (_, old, new) in CASES.items() if n not in (10, 12)}
    assert {n: row for n, row in rows.items() if n < 20} == expected
    # what the agent costs in all, whatever of it counts
    assert rows[20][1:] == ("0.0144", "0.0072")


def test_priced_again_twice_changes_nothing(store: Store, books: dict[str, PriceBook]) -> None:
    """A second run finds every amount right, and writes none."""
    fill(store, books)
    reprice.reprice(store, Asked())
    written = store.sql("SELECT count() FROM charges", fmt="TSV")
    assert reprice.reprice(store, Asked()).run.changed == 0
    assert store.sql("SELECT count() FROM charges", fmt="TSV") == written


def test_spans_delivered_again_keep_the_new_amount(store: Store, books: dict[str, PriceBook]) -> None:
    """So do accounting passes after it."""
    fill(store, books)
    reprice.reprice(store, Asked())
    again = [*(case[0] for case in CASES.values()), agent(20, 20), below(21, 20, 20)]
    store.push_prices(books["old"])
    spans.insert(store, again)
    store.account(trace_id for trace_id, _ in spans.charges(store))
    assert costs(store) == {n: case[2] for n, case in CASES.items()} | _remainder(1)


def test_a_remainder_knows_when_a_call_below_loses_its_price(
    store: Store, books: dict[str, PriceBook]
) -> None:
    """What the agent's own part costs is unknown as long as a call below it has no price."""
    store.push_prices(books["new"])
    spans.insert(store, [agent(20, 20), below(21, 20, 20, "newcomer")])
    first = said(store)
    # 7,200 less 1,400
    assert costs(store) == {20: ("priced", "0.0058"), 21: ("priced", "0.0014")}
    store.push_prices(books["old"])
    reprice.reprice(store, Asked())
    assert costs(store) == {20: ("priced", None), 21: ("unpriced", None)}
    store.push_prices(books["new"])
    reprice.reprice(store, Asked())
    assert said(store) == first


@pytest.mark.parametrize("name", ["conformance", "otel_genai", "frameworks", "trail"])
def test_priced_again_is_as_if_it_came_now(store: Store, books: dict[str, PriceBook], name: str) -> None:
    """Every charge of the suite and of recorded spans, what counts and who pays included."""
    requests = (
        [request for case in suite.load() for request in case.requests()]
        if name == "conformance"
        else spans.recorded_requests(name)
    )
    store.push_prices(books["cheaper"])
    spans.insert(store, requests)
    truth = said(store)
    empty(store)
    store.push_prices(books["shipped"])
    spans.insert(store, requests)
    assert said(store) != truth
    store.push_prices(books["cheaper"])
    told = reprice.reprice(store, Asked(), dry_run=True)
    assert figures(reprice.reprice(store, Asked())) == figures(told)
    assert _without_own(said(store)) == _without_own(truth)


def _without_own(charges: dict[Any, dict[str, Any]]) -> dict[Any, dict[str, Any]]:
    """Return charges without the amounts beside those that a provider billed, which stay."""
    dropped = ("list_cost_usd", "price_model", "covered_list_cost_usd")
    return {
        key: {k: v for k, v in row.items() if k not in dropped} if row["price_status"] == "provided" else row
        for key, row in charges.items()
    }


@pytest.mark.parametrize("seed", [1, 2])
def test_amounts_are_those_of_the_book_in_python(
    store: Store, books: dict[str, PriceBook], seed: int
) -> None:
    """Calls of any shape, with any book before and after: equal to the pico-dollar, span by span."""
    chance = random.Random(seed)
    requests = [_any_call(chance, number) for number in range(1, 400)]
    store.push_prices(books["old"])
    spans.insert(store, requests)
    book = books[chance.choice(("new", "cheaper"))]
    store.push_prices(book)
    reprice.reprice(store, Asked())
    by_sql, by_python = spans.charges(store), spans.entries(requests, book)
    assert len(by_sql) == len(by_python)
    for (trace_id, span_id), entry in by_python.items():
        if by_sql[str(trace_id), str(span_id)]["price_status"] != "provided":
            assert _said_by_sql(by_sql[str(trace_id), str(span_id)]) == _said_by_python(entry)


MODELS = (
    ("large", "house"), ("newcomer", "house"), ("gpt-4o", "openai"), ("gpt-4o-mini", ""), ("gpt-5", "openai"),
    ("claude-sonnet-4-5", "anthropic"), ("gemini-3-pro-preview", "google"), ("deepseek-chat", "deepseek"),
    ("x", ""),
)  # fmt: skip


def _any_call(chance: random.Random, number: int) -> spans.Request:
    if chance.random() < 0.15:
        return tool(
            number, chance.choice(("search", "OCR", "ls")), ocr__pages=chance.choice((0, 3, "2.5", "many"))
        )
    model, provider = chance.choice(MODELS)
    tokens = chance.choice((0, 7, 1000, 199_999, 200_000, 200_001, 272_001, 10**6))
    extra: dict[str, Any] = {
        "gen_ai__usage__input_tokens": tokens,
        "gen_ai__usage__output_tokens": chance.randrange(3000),
        "gen_ai__usage__cache_read__input_tokens": chance.choice((0, tokens // 2)),
        "gen_ai__usage__cache_creation__input_tokens": chance.choice((0, tokens // 3)),
        "gen_ai__usage__reasoning__output_tokens": chance.choice((0, 11)),
    }
    if chance.random() < 0.2:
        extra["openai__response__service_tier"] = chance.choice(("batch", "flex", "priority", "default"))
    if chance.random() < 0.1:
        extra["gen_ai__cost__total_cost"] = 0.25  # an estimate of the instrumentation's
    return call(number, model, provider, **extra)


def test_a_run_is_refused_while_another_writes(store: Store, books: dict[str, PriceBook]) -> None:
    """One that ended while it was writing must be finished or undone first; one that planned is given up."""
    fill(store, books)
    for at, state in (("stage", "abandoned"), ("apply", "stopped")):
        with pytest.raises(_StoppedError):
            reprice.reprice(store, Asked(), progress=_stopping(at))
        (stopped, *_) = reprice.runs(store)
        assert stopped.state == state
    with pytest.raises(StoreError, match=f"--resume {stopped.run_id}, or .* --undo {stopped.run_id}"):
        reprice.reprice(store, Asked(), dry_run=True)
    reprice.undo(store, stopped.run_id)
    assert costs(store) == {n: case[1] for n, case in CASES.items()} | _remainder(0)
    reprice.reprice(store, Asked())
    with pytest.raises(ConfigError, match=f"{stopped.run_id} is undone; there is nothing to go on with"):
        reprice.resume(store, stopped.run_id)
    with pytest.raises(ConfigError, match="no repricing 'x'; the latest are: 2"):
        reprice.resume(store, "x")


def test_looking_at_an_undo_keeps_what_is_still_to_write(
    store: Store, books: dict[str, PriceBook], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dry undo of a run that stopped half-way is refused, and the run can still be finished."""
    monkeypatch.setattr(reprice, "CHARGES_PER_SLICE", 2)
    fill(store, books)
    with pytest.raises(_StoppedError):
        reprice.reprice(store, Asked(), progress=_stopping("apply"))
    (stopped, *_) = reprice.runs(store)
    before = costs(store)
    assert before != {n: case[2] for n, case in CASES.items()} | _remainder(1)
    with pytest.raises(StoreError, match=f"--resume {stopped.run_id}, or undo it without --dry-run"):
        reprice.undo(store, stopped.run_id, dry_run=True)
    assert costs(store) == before
    assert reprice.resume(store, stopped.run_id).run.state == "done"
    assert costs(store) == {n: case[2] for n, case in CASES.items()} | _remainder(1)


def test_a_run_whose_plan_is_gone_is_not_finished_from_another(
    store: Store, books: dict[str, PriceBook], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An undo that was killed had begun to plan in its place: undoing once more is the way out."""
    monkeypatch.setattr(reprice, "CHARGES_PER_SLICE", 2)
    fill(store, books)
    with pytest.raises(_StoppedError):
        reprice.reprice(store, Asked(), progress=_stopping("apply"))
    (stopped, *_) = reprice.runs(store)
    with pytest.raises(_StoppedError):
        reprice.undo(store, stopped.run_id, progress=_stopping("stage"))
    with pytest.raises(StoreError, match=f"took the place of the plan of .*--undo {stopped.run_id}"):
        reprice.resume(store, stopped.run_id)
    with pytest.raises(_StoppedError):
        reprice.undo(store, stopped.run_id, progress=_stopping("apply"))
    (undoing, *_) = reprice.runs(store)
    with pytest.raises(StoreError, match=f"--resume {undoing.run_id}"):
        reprice.resume(store, stopped.run_id)
    reprice.resume(store, undoing.run_id)
    assert costs(store) == {n: case[1] for n, case in CASES.items()} | _remainder(0)


def test_a_run_is_refused_while_another_is_at_work(store: Store, books: dict[str, PriceBook]) -> None:
    """Two would disturb each other; a run that somebody else goes on with ends."""
    fill(store, books)

    resumed: list[str] = []

    def meanwhile(step: str, done: int, total: int) -> None:
        (run, *_) = reprice.runs(store)
        if resumed:
            return
        with pytest.raises(StoreError, match=f"{run.run_id} by .*@.* is at work"):
            reprice.reprice(store, Asked())
        if step == "total":
            reprice.resume(store, run.run_id)
            resumed.append(run.run_id)

    with pytest.raises(StoreError, match="another process goes on with repricing"):
        reprice.reprice(store, Asked(), progress=meanwhile)
    assert costs(store) == {n: case[2] for n, case in CASES.items()} | _remainder(1)
    assert reprice.runs(store)[0].state == "done"


class _StoppedError(Exception):
    pass


def _stopping(at: str) -> reprice.Progress:
    def progress(step: str, done: int, total: int) -> None:
        if step == at:
            raise _StoppedError

    return progress


@pytest.fixture
def server_store(server_dsn: str) -> Iterator[Store]:
    """A store on a server, where several connections work at once."""
    with open_store(server_dsn) as store:
        store.migrate()
        set_refreshing(store, "STOP")
        empty(store)
        yield store


def test_spans_and_passes_meanwhile_end_in_the_truth(
    server_store: Store, server_dsn: str, books: dict[str, PriceBook], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Late spans, repeats and passes race a run; afterwards all is as if it had come at the new prices."""
    monkeypatch.setattr(reprice, "CHARGES_PER_SLICE", 10)
    monkeypatch.setattr(reprice, "VISIBLE_AFTER_S", 0.5)
    cases = [case for case in suite.load() if len(case.spans) > 1]
    rows = [row for case in cases for request in case.requests() for row in flatten(request).rows]
    trace_ids = sorted({str(row[1]) for row in rows})
    server_store.push_prices(books["cheaper"])
    server_store.insert_spans(to_columns(rows))
    truth = said(server_store)
    empty(server_store)
    server_store.push_prices(books["shipped"])
    server_store.insert_spans(to_columns(rows[::2]))
    server_store.push_prices(books["cheaper"])
    done = threading.Event()

    def deliver() -> int:
        passes = 0
        with open_store(server_dsn) as own:
            for part in range(4):
                own.insert_spans(to_columns(rows[part::4]))
            while not done.is_set():
                own.account(trace_ids)
                passes += 1
        return passes

    with ThreadPoolExecutor(2) as threads:
        racing = [threads.submit(deliver) for _ in range(2)]
        try:
            run = reprice.reprice(server_store, Asked())
        finally:
            done.set()
        assert sum(thread.result() for thread in racing) > 0
    assert run.run.changed > 0
    assert _without_own(said(server_store)) == _without_own(truth)
