"""Recorded executions, sent again as live ones: each is stopped at the very call that the recording says.

At which call a cap stops an execution is worked out here from the recording alone: call k is refused when
what calls 1 to k-1 were billed, and what is held for call k, is more than the cap.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from decimal import Decimal
from typing import Any, NamedTuple

import httpx2
import openai
import pytest

from otel_cost import execution
from otel_cost.budgets import Policy
from otel_cost.errors import BudgetExceeded
from otel_cost.fake_provider import _BODIES, FakeProvider, Reply
from otel_cost.fake_provider import Call as Received
from otel_cost.guard import Guard, clients
from otel_cost.guard.bounds import Bound, Bounds
from otel_cost.guard.calls import ModelCall
from otel_cost.ledger.memory import MemoryLedger
from otel_cost.money import PICO
from otel_cost.pricing import PriceBook
from otel_cost.usage import Usage
from tests.data import lines

BOOK = PriceBook.load()
CAPS_USD = [Decimal("0.25"), Decimal("0.50"), Decimal(1), Decimal(2)]
INPUT_USD, CACHED_USD, OUTPUT_USD = Decimal(2), Decimal("0.20"), Decimal(12)
"""Of Gemini 3 Pro Preview, a million tokens, to 200,000 of input (https://ai.google.dev/pricing, 2026-11)."""
URL = "https://openrouter.ai/api/v1"


class Recorded(NamedTuple):
    """A call as the recording has it: tokens, the cached share inside the prompt, and what it was billed."""

    prompt: int
    cached: int
    completion: int
    billed_usd: Decimal

    @property
    def usage(self) -> Usage:
        return Usage(
            input_tokens=self.prompt - self.cached,
            cache_read_tokens=self.cached,
            output_tokens=self.completion,
        )


Told = tuple[Bound, Decimal]
"""What the guard is told that a call can use at most, and what that costs."""


def all_of_it(call: Recorded) -> Told:
    """Tell the tokens of the call itself; that some of them were cached is not known before it is sent."""
    held_usd = (call.prompt * INPUT_USD + call.completion * OUTPUT_USD) / 10**6
    return Bound(call.prompt, call.completion), held_usd


def nothing(call: Recorded) -> Told:
    """Tell that calls are free, so that one is refused only when those before it passed the cap."""
    return Bound(0, 0), Decimal(0)


class ToldBounds(Bounds):
    """Bounds that are told, not learnt."""

    def __init__(self) -> None:
        super().__init__()
        self.next = Bound(0, 0)

    def worst(self, call: ModelCall, conversation: int = 0) -> Bound:
        return self.next


@pytest.fixture(scope="module")
def recordings() -> dict[str, list[Recorded]]:
    """Return the calls of each execution, in their order."""
    found: dict[str, list[tuple[int, Recorded]]] = defaultdict(list)
    for line in lines("miniswe_gemini3/calls.jsonl.xz"):
        call = json.loads(line, parse_float=Decimal)
        found[call["execution_id"]].append((call["seq"], _recorded(call)))
    return {name: [call for _, call in sorted(calls)] for name, calls in found.items()}


def _recorded(call: dict[str, Any]) -> Recorded:
    """Return a call; the few that no bill is recorded of are billed as all others were."""
    prompt, cached, completion = call["prompt_tokens"], call["cached_tokens"], call["completion_tokens"]
    listed = ((prompt - cached) * INPUT_USD + cached * CACHED_USD + completion * OUTPUT_USD) / 10**6
    billed = call["cost_usd"]
    assert billed is None or abs(billed - listed) < Decimal("1e-9")
    return Recorded(prompt, cached, completion, listed)


def sent_before_the_cap(calls: Sequence[Recorded], cap_usd: Decimal, told: Any) -> int:
    """Return how many calls an execution may send, by the recording."""
    billed = Decimal(0)
    for number, call in enumerate(calls):
        if billed + told(call)[1] > cap_usd:
            return number
        billed += call.billed_usd
    return len(calls)


class Replay:
    """An agent that sends recorded calls with the official client, to a provider that bills as recorded."""

    def __init__(self, provider: FakeProvider) -> None:
        self.bounds = ToldBounds()
        self.guard = Guard(Policy.load(environ={}), MemoryLedger(), BOOK)
        self.guard.bounds = self.bounds
        clients.install(self.guard)
        self._provider = provider
        transport = httpx2.MockTransport(self._answer)
        self._client = openai.OpenAI(
            base_url=URL, api_key="x", http_client=httpx2.Client(transport=transport), max_retries=0
        )

    def _answer(self, request: httpx2.Request) -> httpx2.Response:
        call: Received = self._provider.receive(request.url.path, json.loads(request.content), {})
        return httpx2.Response(200, json=_BODIES[call.api](call))

    def run(self, name: str, calls: Sequence[Recorded], cap_usd: Decimal, told: Any) -> None:
        """Send calls until one is refused, or there are no more."""
        with execution(name, budget_usd=cap_usd), suppress(BudgetExceeded):
            for call in calls:
                self.bounds.next, _ = told(call)
                self._provider.script = Reply("ok", usage=call.usage)
                self._client.chat.completions.create(
                    model="google/gemini-3-pro-preview",
                    messages=[{"role": "user", "content": name}],
                    max_tokens=call.completion,
                )


@pytest.fixture
def replay() -> Iterator[Replay]:
    """Return an agent whose calls are guarded."""
    with FakeProvider() as provider:
        yield Replay(provider)
    clients.uninstall()


@pytest.mark.parametrize("cap_usd", CAPS_USD, ids=str)
@pytest.mark.parametrize("told", [all_of_it, nothing])
def test_every_execution_stops_where_the_recording_says(
    cap_usd: Decimal, told: Any, replay: Replay, recordings: dict[str, list[Recorded]]
) -> None:
    """Under each cap, at the very call; and what was spent is what was billed, to the pico-dollar."""
    assert len(recordings) >= 50, "too few to say anything"
    received = replay._provider.calls
    stopped = 0
    for name, calls in recordings.items():
        received.clear()
        replay.run(name, calls, cap_usd, told)
        sent = sent_before_the_cap(calls, cap_usd, told)
        assert (name, len(received)) == (name, sent)
        billed_usd = sum((call.billed_usd for call in calls[:sent]), Decimal(0))
        balance = replay.guard.ledger.balance(f"execution:{name}")
        assert Decimal(balance.settled_picousd) / PICO == billed_usd
        assert balance.reserved_picousd == 0
        assert told is nothing or billed_usd <= cap_usd
        stopped += sent < len(calls)
    assert stopped == replay.guard.refusals
    assert stopped > 0, "a cap that stops nobody shows nothing"
