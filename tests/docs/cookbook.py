"""A month of spans of a small fleet, whose cost is known by hand, for the questions of docs/sql.md.

It is Wednesday, 24 June 2026. Costs are in micro-dollars, rates in USD per million tokens:

- https://developers.openai.com/api/docs/pricing gpt-4o 2.50 in, 1.25 cached, 10 out; gpt-4o-mini 0.15, 0.075
  and 0.60, in a batch half; o4-mini 1.10 in, 4.40 out
- https://www.anthropic.com/pricing claude-sonnet-4-5 3 in, 3.75 written to the cache, 15 out

A small call is gpt-4o-mini with 1,000 tokens in and 100 out: 150 + 60 = 210.

| run | day | what | cost |
|---|---|---|---|
| chat | 24 | gpt-4o 1,000 / 100, recorded twice: 2,500 + 1,000 | 3,500 |
| | | gpt-4o 3,000 / 200, of them 2,000 cached: 2,500 + 2,500 + 2,000 | 7,000 |
| | | its sub-agent reader: a small call; a tool works, and then fails | 210 |
| week, eve, before | 17, 23, 15 | a small call each | 210 |
| may, april | 28, 20 May | a small call; gpt-4o 2,000 / 200: 5,000 + 2,000 | 210, 7,000 |
| broken | 22 | o4-mini 1,000 / 500, of them 400 reasoning: 1,100 + 2,200 | 3,300 |
| | | a small call that fails before its output, and then succeeds | 150, 210 |
| unknown | 24 | a model without a price, 50 / 5 | |
| killed | 23 | claude 2,000 / 100, of them 1,000 written: 3,000 + 3,750 + 1,500 | 8,250 |
| night | 10 | gpt-4o-mini in a batch, 10,000 / 1,000: 750 + 300 | 1,050 |
| scale | 24 | a small call of a tier that has no rates: estimated | 210 |
| house | 26 May | house-9 1,000 / 100, of them 50 reasoning, less 25 %: 2,000 + 500 + 1,000 | 2,625 |
| nobody | 23 | gpt-4o-mini 2,000 / 100 below a span that never came: 300 + 60 | 360 |

Chat to april are runs of the planner (acme, red, search), by ann, but the eve by bob.
Broken and unknown are bob's writer (blue, write), killed is cat's researcher (blue, research), night and
scale are dan's (globex, green, nightly), and house and nobody are nobody's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

from otel_cost.budgets import Policy

TODAY = "2026-06-24"
NOON = f"{TODAY} 12:00:00"

PRICES = """
models:
  - provider: house
    model: house-9
    source: https://intranet.example/prices
    source_date: 2026-01-01
    dated:
      - rates: {input_usd_per_mtok: 1, output_usd_per_mtok: 5, reasoning_usd_per_mtok: 10}
        tiers:
          - above_input_tokens: 500
            input_usd_per_mtok: 2
            output_usd_per_mtok: 10
            reasoning_usd_per_mtok: 20
discounts:
  - {provider: house, discount_ratio: 0.25}
"""
"""The price file of the fleet: a discount, dearer long prompts, and reasoning with a rate of its own."""

Request = dict[str, Any]
Attributes = dict[str, str | int]

TOLD = "opentelemetry.instrumentation.genai.openai"
OK, ERROR = 1, 2

SEARCH: Attributes = {
    "otel_cost.organization": "acme",
    "otel_cost.team": "red",
    "otel_cost.feature": "search",
    "gen_ai.agent.name": "planner",
}
WRITE: Attributes = {
    "otel_cost.organization": "acme",
    "otel_cost.team": "blue",
    "user.id": "bob",
    "otel_cost.feature": "write",
    "gen_ai.agent.name": "writer",
}
NIGHTLY: Attributes = {"otel_cost.organization": "globex", "user.id": "dan", "otel_cost.feature": "nightly"}


def policy() -> Policy:
    """Return budgets that the fleet is close to, and a clock that is not in UTC."""
    return Policy.load(
        user_usd_per_day={"*": "1"},
        team_usd_per_month={"red": "0.012", "blue": "0.1"},
        organization_usd_per_month="1",
        time_zone={"*": "UTC", "globex": "Asia/Tokyo"},
    )


def trace_id(run: str) -> str:
    """Return the trace of a run."""
    return hashlib.md5(run.encode()).hexdigest()


def requests() -> list[Request]:
    """Return every span as the request that delivers it."""
    return [*_chat(), *_small_runs(), *_writer(), *_others()]


def _chat() -> Iterator[Request]:
    at = "2026-06-24 09:00"
    root: Attributes = SEARCH | {"user.id": "ann", "session.id": "talk-1", "http.route": "/chat"}
    del root["gen_ai.agent.name"]
    run = {"run": "chat", "at": at, "version": "2.0"}
    first = _call("gpt-4o", 1000, 100) | {"gen_ai.response.id": "resp_1"}
    second = _call("gpt-4o", 3000, 200) | {"gen_ai.usage.cache_read.input_tokens": 2000}
    yield _span(1, 0, (0, 30), root, **run)
    yield _span(2, 1, (1, 29), _agent("planner"), **run)
    yield _span(3, 2, (2, 4), first, **run)
    yield _span(4, 2, (2, 5), first, scope="another.instrumentation", **run)
    yield _span(5, 2, (6, 7), _tool("web_search"), **run)
    yield _span(6, 2, (8, 10), second, **run)
    yield _span(7, 2, (11, 14), _tool("web_search"), status=ERROR, **run)
    yield _span(8, 2, (15, 20), _agent("reader") | {"otel_cost.component": "digest"}, **run)
    yield _span(9, 8, (16, 19), _call("gpt-4o-mini", 1000, 100), **run)


def _small_runs() -> Iterator[Request]:
    small = SEARCH | _call("gpt-4o-mini", 1000, 100)
    dear = SEARCH | _call("gpt-4o", 2000, 200)
    yield _span(1, 0, (0, 1), small | {"user.id": "ann"}, run="week", at="2026-06-17 10:00")
    yield _span(1, 0, (0, 1), small | {"user.id": "bob"}, run="eve", at="2026-06-23 14:00")
    yield _span(1, 0, (0, 1), small | {"user.id": "ann"}, run="before", at="2026-06-15 10:00")
    yield _span(1, 0, (0, 1), small | {"user.id": "ann"}, run="may", at="2026-05-28 10:00")
    yield _span(1, 0, (0, 1), dear | {"user.id": "ann"}, run="april", at="2026-05-20 10:00")


def _writer() -> Iterator[Request]:
    run = {"run": "broken", "at": "2026-06-22 11:00"}
    thinking = _call("o4-mini", 1000, 500) | {"gen_ai.usage.reasoning.output_tokens": 400}
    failed = _call("gpt-4o-mini", 1000, 0) | {"error.type": "timeout"}
    unknown = WRITE | _call("acme-1", 50, 5, provider="acme")
    yield _span(1, 0, (0, 9), WRITE | _agent("writer"), status=ERROR, **run)
    yield _span(2, 1, (1, 3), thinking, **run)
    yield _span(3, 1, (4, 5), failed, status=ERROR, **run)
    yield _span(4, 1, (6, 7), _call("gpt-4o-mini", 1000, 100), **run)
    yield _span(1, 0, (0, 1), unknown, run="unknown", at="2026-06-24 07:00")


def _others() -> Iterator[Request]:
    research = WRITE | {"user.id": "cat", "otel_cost.feature": "research", "gen_ai.agent.name": "researcher"}
    written = _call("claude-sonnet-4-5", 2000, 100, provider="anthropic")
    written |= {"gen_ai.usage.cache_creation.input_tokens": 1000}
    batch = NIGHTLY | _call("gpt-4o-mini", 10_000, 1000) | {"otel_cost.team": "green"}
    scale = NIGHTLY | _call("gpt-4o-mini", 1000, 100) | {"otel_cost.team": "green"}
    tests = {"service": "nightly", "environment": "test"}
    yield _span(1, 0, (0, 5), research | written, run="killed", at="2026-06-23 16:00", refused_usd="0.02")
    yield _span(
        1,
        0,
        (0, 9),
        batch | {"gen_ai.openai.response.service_tier": "batch"},
        run="night",
        at="2026-06-10 02:00",
        **tests,
    )
    yield _span(
        1,
        0,
        (0, 1),
        scale | {"gen_ai.openai.response.service_tier": "scale"},
        run="scale",
        at="2026-06-24 08:00",
        **tests,
    )
    alone = {"service": "cron", "environment": ""}
    house = _call("house-9", 1000, 100, provider="house") | {"gen_ai.usage.reasoning.output_tokens": 50}
    yield _span(1, 0, (0, 1), house, run="house", at="2026-05-26 01:00", **alone)
    yield _span(2, 1, (0, 1), _call("gpt-4o-mini", 2000, 100), run="nobody", at="2026-06-23 05:00", **alone)


def _call(model: str, input_tokens: int, output_tokens: int, provider: str = "openai") -> Attributes:
    return {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": provider,
        "gen_ai.request.model": model,
        "gen_ai.usage.input_tokens": input_tokens,
        "gen_ai.usage.output_tokens": output_tokens,
    }


def _agent(name: str) -> Attributes:
    return {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": name}


def _tool(name: str) -> Attributes:
    return {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": name}


def _span(
    number: int,
    parent: int,
    seconds: tuple[int, int],
    attributes: Attributes,
    *,
    run: str,
    at: str,
    status: int = OK,
    scope: str = TOLD,
    service: str = "agents",
    environment: str = "prod",
    version: str = "1.0",
    refused_usd: str = "",
) -> Request:
    """Return a request of one span, the first and last second counted from `at`."""
    begin_s = int(datetime.fromisoformat(at).replace(tzinfo=timezone.utc).timestamp())
    first_ns, last_ns = ((begin_s + second) * 10**9 for second in seconds)
    span = {
        "traceId": trace_id(run),
        "spanId": _span_id(run, number),
        "parentSpanId": _span_id(run, parent) if parent else "",
        "name": "span",
        "startTimeUnixNano": str(first_ns),
        "endTimeUnixNano": str(last_ns),
        "attributes": _pairs(attributes),
        "status": {"code": status},
        "events": [_refusal(last_ns, refused_usd)] if refused_usd else [],
    }
    resource: Attributes = {"service.name": service, "service.version": version}
    resource |= {"deployment.environment.name": environment} if environment else {}
    scoped = {"scope": {"name": scope}, "spans": [span]}
    return {"resourceSpans": [{"resource": {"attributes": _pairs(resource)}, "scopeSpans": [scoped]}]}


def _span_id(run: str, number: int) -> str:
    return hashlib.md5(f"{run}/{number}".encode()).hexdigest()[:16]


def _refusal(at_ns: int, asked_usd: str) -> Request:
    told: Attributes = {
        "otel_cost.kind": "budget_usd",
        "otel_cost.mode": "enforce",
        "otel_cost.asked_usd": asked_usd,
    }
    return {"timeUnixNano": str(at_ns), "name": "otel_cost.refused", "attributes": _pairs(told)}


def _pairs(values: Attributes) -> list[Request]:
    return [
        {"key": key, "value": {"intValue": str(value)} if isinstance(value, int) else {"stringValue": value}}
        for key, value in values.items()
    ]
