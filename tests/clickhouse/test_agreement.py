"""The SQL and the Python rules give the same answers about every recorded span."""

from __future__ import annotations

import json
import random
import re
from decimal import Decimal
from typing import Any

import pytest

from otel_cost import attributes, documents
from otel_cost.accounting import Entry
from otel_cost.charging import REFUSALS
from otel_cost.money import usd_text
from otel_cost.pricing import PriceBook
from otel_cost.providers import ADDRESSES
from otel_cost.store import Store
from otel_cost.store.files import named_sql
from otel_cost.usage import BEDROCK_SCOPES
from tests.clickhouse import spans
from tests.conformance import backends, suite
from tests.conformance.backends import PAYER_COLUMNS, facts
from tests.conformance.suite import Answer
from tests.otlp import recorded_spans

CASES = {case.name: case for case in suite.load()}
TEXTS = (
    "counted",
    "not_counted_reason",
    "provider",
    "model",
    "price_status",
    "span_class",
    "response_id",
    "tool_name",
    "operation",
    "price_model",
    "service_tier",
)
TOTALS = ("input_tokens", "output_tokens")
BUCKETS = (
    "cache_read_tokens",
    "cache_write_tokens",
    "cache_write_1h_tokens",
    "reasoning_tokens",
    "audio_input_tokens",
    "audio_output_tokens",
    "image_input_tokens",
    "image_output_tokens",
    "tool_input_tokens",
    "web_searches",
)
AMOUNTS = (0, 40, 60, 100, 140, 160, 200, 260, 300, 400)
"""Sums of these are among them, so that a total often tells that a part is beside another, or is not."""


def _pico(value: Any) -> int | None:
    return None if value is None else int(Decimal(str(value)).scaleb(12))


def _said_by_sql(row: dict[str, Any]) -> dict[str, Any]:
    said = {name: row[name] for name in TEXTS}
    said["cost_picousd"] = _pico(row["cost_usd"])
    said["marks"] = sorted(row["usage_marks"])
    said |= {name: None if row[name] is None else int(row[name]) for name in TOTALS}
    return said | {name: int(row[name]) for name in BUCKETS}


def _said_by_python(entry: Entry) -> dict[str, Any]:
    reading, charge = entry.span.reading, entry.span.charge
    assert reading is not None  # accounting names billable spans only
    assert charge is not None
    usage = reading.usage
    own = (usage.total_input_tokens, usage.total_output_tokens) if usage else (None, None)
    counted = (entry.input_tokens, entry.output_tokens) if usage and entry.counted else own
    said: dict[str, Any] = {
        "counted": entry.counted,
        "not_counted_reason": entry.reason,
        "provider": reading.provider or charge.provider,
        "model": reading.model,
        "price_status": charge.status,
        "span_class": reading.span_class,
        "response_id": reading.response_id,
        "tool_name": reading.tool_name,
        "operation": reading.operation,
        "price_model": charge.model,
        "service_tier": reading.service_tier,
        "cost_picousd": entry.cost_picousd if entry.counted else charge.cost_picousd,
        "marks": sorted(reading.marks),
    }
    said |= dict(zip(TOTALS, counted, strict=True))
    return said | {name: getattr(usage, name) if usage else 0 for name in BUCKETS}


@pytest.mark.parametrize("name", spans.RECORDED)
def test_recorded_spans_cost_the_same(store: Store, book: PriceBook, name: str) -> None:
    """Tokens, model, status, cost to the pico-dollar, and what counts: equal for every recorded span."""
    assert _compared(store, spans.recorded_requests(name), book) > 10


def test_fixtures_of_other_projects_cost_the_same(store: Store, book: PriceBook) -> None:
    """Spans of the AI SDK for JavaScript, and one call in three conventions: equal totals, span by span."""
    requests = spans.fixture_requests()
    assert _compared(store, requests, book) == 15
    wanted = backends.totals(spans.entries(requests, book).values())
    assert Decimal(wanted["cost_usd"]) > 0
    assert _totals(store) == wanted


def test_a_price_on_a_span_is_believed_within_bounds(store: Store) -> None:
    """What no processor of ours writes is priced as if it were not there: 1,000 tokens at 0.15 USD a million.

    https://openai.com/api/pricing (2026-11)
    """
    call = {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "gpt-4o-mini",
        "gen_ai.usage.input_tokens": 1000,
        "gen_ai.usage.output_tokens": 0,
    }
    told = [
        ("-5", "priced"),
        ("1e26", "priced"),
        ("", "priced"),
        ("nan", "priced"),
        ("2", "cheap"),
        ("2", ""),
    ]
    told += [("2.5", "priced"), ("", "unpriced")]
    prices = [{"otel_cost.cost_usd": cost, "otel_cost.price.status": status} for cost, status in told]
    spans.insert(store, [spans.of_attributes(number, call | price) for number, price in enumerate(prices, 1)])
    charged = sorted(spans.charges(store).items())
    assert [_pico(row["cost_usd"]) for _, row in charged] == [150_000_000] * 6 + [2_500_000_000_000, None]


def test_any_usage_is_read_the_same(store: Store, book: PriceBook) -> None:
    """Which parts are inside which, and what is missing, is told the same of any amounts."""
    chance = random.Random(2)
    requests = [spans.of_attributes(number, _any_usage(chance)) for number in range(1, 2_001)]
    assert _compared(store, requests, book) > 1_800


@pytest.mark.parametrize("name", ["server.address", "gen_ai.openai.api_base"])
def test_the_host_says_who_bills(store: Store, book: PriceBook, name: str) -> None:
    """Whoever an instrumentation names, and however the address of the server is written."""
    chance = random.Random(3)
    hosts = ["api.deepinfra.com", "API.Together.xyz", "api.groq.com", "api.x.ai", "us-east-1.api.x.ai"]
    hosts += ["openrouter.ai", "api.openai.com", "eu.api.openai.com", "api.anthropic.com", "localhost"]
    hosts += [
        "my.openai.azure.com",
        "my.azure-api.net",
        "dbc-1.cloud.databricks.com",
        "ollama",
        "vllm-1.ml.svc",
    ]
    hosts += [
        "gateway.ai.cloudflare.com",
        "litellm.internal",
        "router.huggingface.co",
        "evil-api.groq.com",
        "",
    ]
    hosts += [
        "api.groq.com.evil.example",
        "bedrock-runtime.us-east-1.amazonaws.com",
        "[::1]",
        "api.groq.com ",
    ]
    providers = [
        "openai",
        "OpenAI",
        "openai.chat",
        "ChatOpenAI",
        "anthropic",
        "claude",
        "openrouter",
        "",
        "groq",
    ]
    providers += ["aws.bedrock", "gcp.vertex_ai", "azure.ai.openai", "litellm", "openai-decisions", "ollama"]
    forms = ["{}", "https://{}/v1/openai", "http://user:secret@{}", "https://{}:8443/v1", "{}:11434", "{}:x"]
    requests = []
    for number in range(1, 2_001):
        told = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": chance.choice(providers),
            "gen_ai.request.model": chance.choice(("gpt-4o", "deepseek-r1", "openai/gpt-oss-120b", "grok-4")),
            "gen_ai.usage.input_tokens": 1000,
            "gen_ai.usage.output_tokens": 200,
            name: chance.choice(forms).format(chance.choice(hosts)),
        }
        if port := chance.choice(("", "", 443, 1234, 11434)):
            told["server.port"] = port
        requests.append(spans.of_attributes(number, told))
    assert _compared(store, requests, book) == 2_000
    found = {row["provider"] for row in spans.charges(store).values()}
    assert {"deepinfra", "together", "groq", "ollama", "vllm", "lmstudio", "azure", "aws", "openai"} <= found


def test_the_place_of_inference_is_priced_the_same(store: Store, book: PriceBook) -> None:
    """Whether a usage, an attribute or the host says it, for models that it is dearer for and others."""
    chance = random.Random(5)
    tiers = ("", "standard", "batch", "priority", "Flex", "fast", "regional batch", "platinum")
    models = [("anthropic", name) for name in ("claude-opus-4-7", "claude-sonnet-4-5", "claude-fable-5-2")]
    models += [("openai", name) for name in ("gpt-4o", "gpt-5.4", "gpt-5.4-mini", "gpt-6-sol")]
    models += [("gcp.vertex_ai", name) for name in ("claude-sonnet-4-6", "claude-sonnet-5", "gemini-2.5-pro")]
    hosts = ("", "api.anthropic.com", "eu.api.openai.com", "https://us.api.openai.com/v1", "api.openai.com")
    hosts += ("us-east5-aiplatform.googleapis.com", "aiplatform.eu.rep.googleapis.com")
    geos = ("", "us", "US", "global", "not_available", "eu")
    requests = []
    for number in range(1, 2_001):
        provider, model = chance.choice(models)
        amounts = {"input_tokens": chance.choice((1_000, 300_000)), "output_tokens": 200}
        told: dict[str, Any] = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": provider,
            "gen_ai.request.model": model,
            "gen_ai.response.service_tier": chance.choice(tiers),
            "anthropic.usage.inference_geo": chance.choice(geos),
            "server.address": chance.choice(hosts),
            **{f"gen_ai.usage.{name}": amount for name, amount in amounts.items()},
        }
        if chance.random() < 0.3:
            told["gen_ai.usage.raw"] = json.dumps({**amounts, "inference_geo": chance.choice(geos)})
        requests.append(spans.of_attributes(number, told))
    assert _compared(store, requests, book) == 2_000


def test_every_host_known_in_python_is_known_in_sql() -> None:
    """A host added to providers.py and forgotten in SQL fails here; the order decides where two match."""
    text = named_sql("views", "endpoints_dictionary").replace("\\\\", "\\")
    rows = ",\n        ".join(f"('{provider}', '{pattern}')" for provider, pattern in ADDRESSES.items())
    assert f"[\n        {rows}\n    ]" in text


def _any_usage(chance: random.Random) -> dict[str, Any]:
    names = chance.sample(sorted(attributes.USAGE_NAMES), chance.randint(0, 4))
    kept = {name for name in ("input_tokens", "output_tokens", "total_tokens") if chance.random() < 0.85}
    amounts = {attributes.USAGE_NAMES[name][0]: chance.choice(AMOUNTS) for name in sorted({*names, *kept})}
    return {
        "gen_ai.operation.name": chance.choice(("chat", "embeddings", "invoke_agent", "interactions.create")),
        "gen_ai.provider.name": chance.choice(("openai", "anthropic", "aws.bedrock", "gcp.gemini")),
        "gen_ai.request.model": chance.choice(("gpt-4o", "gemini-2.5-flash", "claude-sonnet-4-5")),
        **amounts,
    }


def _compared(store: Store, requests: list[spans.Request], book: PriceBook) -> int:
    """Insert spans, hold every charge against the rules in Python, and return how many there are."""
    spans.insert(store, requests)
    by_sql, by_python = spans.charges(store), spans.entries(requests, book)
    assert by_sql.keys() == by_python.keys()
    for (trace_id, span_id), entry in by_python.items():
        if not entry.is_remainder:
            said = _said_by_sql(by_sql[str(trace_id), str(span_id)])
            assert said == _said_by_python(entry), (trace_id, span_id)
    return len(by_sql)


def _sql_answer(store: Store) -> Answer:
    said = {row["span_id"]: _span_answer(row) for row in spans.charges(store).values()}
    return Answer(_totals(store), said)


def _totals(store: Store) -> dict[str, Any]:
    counted = [row for row in spans.charges(store).values() if row["counted"]]
    calls = [row for row in counted if row["kind"] == "model"]
    return {
        "cost_usd": usd_text(sum(_pico(row["cost_usd"]) or 0 for row in counted)),
        "input_tokens": sum(int(row["input_tokens"] or 0) for row in counted),
        "output_tokens": sum(int(row["output_tokens"] or 0) for row in counted),
        "model_calls": len(calls),
        "tool_calls": len(counted) - len(calls),
        "unpriced_calls": sum(row["cost_usd"] is None for row in calls),
    }


def _span_answer(row: dict[str, Any]) -> dict[str, Any]:
    cost = _pico(row["cost_usd"]) if row["counted"] else None
    return {
        "counted": row["counted"],
        "reason": row["not_counted_reason"],
        "status": row["price_status"],
        "cost_usd": None if cost is None else usd_text(cost),
        **{name: row[name] for name in PAYER_COLUMNS},
    }


@pytest.mark.parametrize("name", sorted(CASES))
@pytest.mark.parametrize("is_reversed", [False, True], ids=["in_order", "reversed_and_twice"])
def test_the_conformance_suite_passes(store: Store, name: str, is_reversed: bool) -> None:
    """Each case of what counts once comes out right, delivered once in order, or backwards and twice."""
    case = CASES[name]
    requests = list(case.requests())
    for request in [*requests[::-1], *requests] if is_reversed else requests:
        spans.insert(store, [request])
    assert suite.differences(case, _sql_answer(store)) == []


def test_any_span_is_linked_once_with_the_payer_it_names(store: Store) -> None:
    """Whether it is about a model or not: the most trusted name counts, tidied and cut to size."""
    payer = {
        "team": "blue",
        "otel_cost.team": " red\x07team\n",
        "user.id": "é" * 200,
        "enduser.id": "bob",
        "team.id": "",
    }
    ordinary, marked = payer | {"http.route": "/"}, payer | {"gen_ai.operation.name": "chat"}
    spans.insert(store, [spans.of_attributes(1, ordinary), spans.of_attributes(2, marked)])
    links = store.sql("SELECT span_class, payer FROM trace_links ORDER BY trace_id", fmt="JSONCompactEachRow")
    named = {"team": "red team", "user_id": "é" * 128}
    assert [json.loads(line) for line in links.splitlines()] == [["other", named], ["model", named]]
    assert [row["team"] for row in spans.charges(store).values()] == ["red team"]


def test_every_attribute_read_in_python_is_read_in_sql() -> None:
    """A name added to attributes.py or documents.py and forgotten in SQL fails here."""
    text = named_sql("views", "attribute_names") + named_sql("views", "read_spans")
    known = [name for aliases in attributes.USAGE_NAMES.values() for name in aliases]
    known += [name for aliases in attributes.PAYER_NAMES.values() for name in aliases]
    known += [
        *attributes.MARKERS,
        *attributes.REPORTED_COST,
        *attributes.PROVIDER,
        *attributes.RESPONSE_MODEL,
    ]
    known += [
        *attributes.REQUEST_MODEL,
        *attributes.RESPONSE_ID,
        *attributes.SERVICE_TIER,
        *attributes.TOOL_NAME,
        attributes.SERVER_ADDRESS,
        attributes.SERVER_PORT,
        attributes.API_BASE,
        attributes.INFERENCE_GEO,
    ]
    known += [*attributes.TOOL_CALL_ID, *attributes.STREAMING, *attributes.EXECUTION_ID]
    known += [".".join(path) for paths in documents.PROVIDER_USAGE.values() for path in paths]
    assert [name for name in known if name not in text] == []


def test_every_operation_known_in_python_is_known_in_sql() -> None:
    """What makes a span a model call, a tool or an aggregate is the same list in both."""
    text = named_sql("views", "read_spans")
    known = attributes.MODEL_OPERATIONS | attributes.TOOL_OPERATIONS | attributes.AGGREGATE_OPERATIONS
    known |= attributes.EMBEDDING_OPERATIONS
    assert [name for name in sorted(known) if f"'{name}'" not in text] == []
    assert [name for name in attributes.ESTIMATOR_COSTS if f"'{name}'" not in text] == []
    assert [scope for scope in BEDROCK_SCOPES if f"'{scope}'" not in text] == []
    assert [scope for scope in attributes.ESTIMATOR_SCOPES if scope.rstrip(".") not in text] == []


def test_every_refusal_known_in_python_is_known_in_sql() -> None:
    """What a provider bills nothing for is the same list in both."""
    text = named_sql("views", "charge_readings")
    (listed,) = re.findall(r"splitByChar\('\.', error_type\)\[-1\] IN \((.*?)\)", text, re.S)
    assert set(re.findall(r"'(\w+)'", listed)) == REFUSALS


def test_facts_of_the_shared_helper_are_priced(book: PriceBook) -> None:
    """The comparison is not between two blanks: recorded spans have amounts."""
    requests = spans.recorded_requests("otel_genai")
    made = [facts(span, book) for request in requests for span in recorded_spans(request)]
    assert sum(bool(span.charge and span.charge.cost_picousd) for span in made) > 90
