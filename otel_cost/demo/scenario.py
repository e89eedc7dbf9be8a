"""The agents of the demo, what the provider bills them, and what that comes to by hand.

The rates are list prices of genai-prices 0.2.3, which names these as its sources:
https://developers.openai.com/api/docs/pricing and https://www.anthropic.com/pricing#api.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from otel_cost.fake_provider import Call, Reply, ToolCall
from otel_cost.usage import Usage

MILLION = Decimal(1_000_000)


@dataclass(frozen=True, slots=True)
class Bill:
    """One call worked out by hand: (tokens, USD per million tokens) of each bucket."""

    model: str
    parts: Sequence[tuple[int, str]]

    @property
    def cost_usd(self) -> Decimal:
        """What the call costs."""
        return sum((tokens * Decimal(rate) for tokens, rate in self.parts), Decimal(0)) / MILLION


@dataclass(frozen=True, slots=True)
class Run:
    """One agent run by one user.

    Attributes:
        program: File name in `examples/`.
        needs: Modules that must be installed.
        script: What the provider answers, and bills.
        bills: The same calls worked out by hand.
        unpriced_calls: Calls to models that no price list knows.
        budget_usd: What the run may spend, for one that would never end; empty for none.
    """

    program: str
    framework: str
    needs: tuple[str, ...]
    user: str
    team: str
    script: Callable[[Call], Reply]
    bills: tuple[Bill, ...]
    unpriced_calls: int = 0
    budget_usd: str = ""

    @property
    def cost_usd(self) -> Decimal:
        """What the run costs, by hand."""
        return sum((bill.cost_usd for bill in self.bills), Decimal(0))


def _answers_a_tool(call: Call) -> bool:
    return "function_call_output" in call.text or "tool_result" in call.text


def research(call: Call) -> Reply:
    """Bill the trip planner: a reasoning model, a small model as its tool, cached input in turn two."""
    if call.model == "gpt-5-nano":
        if _answers_a_tool(call):
            return Reply(
                "Kyoto: best seen in April, temples open at nine.",
                usage=Usage(input_tokens=860, output_tokens=120),
            )
        return Reply(
            tool_calls=[ToolCall("look_up", {"topic": "Kyoto"})],
            usage=Usage(input_tokens=800, output_tokens=40, reasoning_tokens=60),
        )
    if _answers_a_tool(call):
        return Reply(
            "Start at nine at Kiyomizu, walk to Gion, and stay for the cherry trees at dusk.",
            usage=Usage(input_tokens=900, cache_read_tokens=2304, output_tokens=320, reasoning_tokens=180),
        )
    return Reply(
        tool_calls=[ToolCall("research", {"input": "What is there to know about Kyoto?"})],
        usage=Usage(input_tokens=2400, output_tokens=60, reasoning_tokens=440),
    )


RESEARCH_BILLS = (
    Bill("gpt-5-mini", [(2400, "0.25"), (60 + 440, "2.00")]),
    Bill("gpt-5-nano", [(800, "0.05"), (40 + 60, "0.40")]),
    Bill("gpt-5-nano", [(860, "0.05"), (120, "0.40")]),
    Bill("gpt-5-mini", [(900, "0.25"), (2304, "0.025"), (320 + 180, "2.00")]),
)


def support(call: Call) -> Reply:
    """Bill the support desk: cache writes of both lifetimes, cache reads, and a model without a price."""
    if call.model == "claude-haiku-4-5":
        return Reply("The second charge is a hold.", usage=Usage(input_tokens=500, output_tokens=45))
    if call.api == "openai.chat":
        return Reply("Question about a hold", usage=Usage(input_tokens=260, output_tokens=12))
    if _answers_a_tool(call):
        return Reply(
            "You were charged once; the second line is a hold that goes away by itself.",
            usage=Usage(input_tokens=410, cache_read_tokens=8048, output_tokens=150),
        )
    return Reply(
        tool_calls=[ToolCall("ask_expert", {"question": "Why are there two charges?"})],
        usage=Usage(input_tokens=320, cache_write_tokens=2048, cache_write_1h_tokens=6000, output_tokens=90),
    )


SUPPORT_BILLS = (
    Bill("claude-sonnet-4-6", [(320, "3"), (2048, "3.75"), (6000, "6"), (90, "15")]),
    Bill("claude-haiku-4-5", [(500, "1"), (45, "5")]),
    Bill("claude-sonnet-4-6", [(410, "3"), (8048, "0.30"), (150, "15")]),
)


def watch(call: Call) -> Reply:
    """Bill the price watcher: it asks for the same page again and again."""
    return Reply(
        tool_calls=[ToolCall("read_page", {"url": "https://shop.example/blue-bicycle"})],
        usage=Usage(input_tokens=300, output_tokens=100, reasoning_tokens=1400),
    )


WATCH_BILLS = (Bill("gpt-5-mini", [(300, "0.25"), (100 + 1400, "2.00")]),) * 6
"""Six calls of $0.003075 are $0.01845. A seventh could cost $0.004 for its 2,000 output tokens alone, more
than $0.021 leaves."""

RUNS = (
    Run(
        program="research_agents.py",
        framework="OpenAI Agents SDK",
        needs=("agents", "openai"),
        user="alice",
        team="travel",
        script=research,
        bills=RESEARCH_BILLS,
    ),
    Run(
        program="support_agents.py",
        framework="Pydantic AI",
        needs=("pydantic_ai", "anthropic", "openai"),
        user="bob",
        team="support",
        script=support,
        bills=SUPPORT_BILLS,
        unpriced_calls=1,
    ),
    Run(
        program="runaway_agent.py",
        framework="OpenAI Agents SDK",
        needs=("agents", "openai"),
        user="carol",
        team="search",
        script=watch,
        bills=WATCH_BILLS,
        budget_usd="0.021",
    ),
)
"""The runs of the demo: $0.0030536 for alice, $0.0526094 for bob, $0.01845 for carol, who is stopped."""
