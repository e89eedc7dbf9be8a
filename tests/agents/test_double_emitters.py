"""Two instrumentations of one call, or a parent that repeats its children: the money is counted once.

Each program runs for real against the fake provider, which knows what it billed. The tokens of the spans that
count must add up to that, bucket by bucket, and their cost to the dollars worked out by hand.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from otel_cost.fake_provider import Call, FakeProvider, Reply, ToolCall
from otel_cost.usage import BUCKETS, Usage, read
from tests.agents.harness import Collector, Program, send_to
from tests.data import ROOT

EXAMPLES = ROOT / "examples"
HOUSE_MODEL = "house-summarizer-2"


def measured(collector: Collector) -> Usage:
    """Return the sum of the usage of the model calls that count."""
    readings = [read(dict(span.attributes), scope=span.scope) for span in collector.spans if span.is_counted]
    usages = [reading.usage for reading in readings if reading.usage is not None]
    return Usage(**{name: sum(getattr(usage, name) for usage in usages) for name in BUCKETS})


def spent(collector: Collector) -> Decimal:
    """Return the sum of the costs that count."""
    return sum((span.cost_usd for span in collector.counted() if span.cost_usd is not None), Decimal(0))


def check(
    program: Program,
    script: Callable[[Call], Reply],
    collector: Collector,
    expected_usd: str,
    **settings: str,
) -> None:
    """Run a program and compare what was measured with what was billed."""
    with FakeProvider(script) as provider:
        environment = provider.environment | send_to(collector) | settings
        finished = program.run({name: text for name, text in environment.items() if text})
        truth = provider.truth()
    assert finished.returncode == 0, finished.stderr
    assert measured(collector) == truth
    assert spent(collector) == Decimal(expected_usd)
    (root,) = [span for span in collector.spans if not span.parent_id]
    assert Decimal(root.attributes["otel_cost.execution.cost_usd"]) == Decimal(expected_usd)


def is_answering_a_tool(call: Call) -> bool:
    """Whether the request carries the result of a tool."""
    return any(word in call.text for word in ('"role": "tool"', "function_call_output", "tool_result"))


def test_langgraph_and_the_openai_sdk(collector):
    """LangChain's spans and the OpenAI SDK's spans of one call are one call.

    gpt-4o-mini, per million tokens: $0.15 input, $0.075 cached, $0.60 output
    (genai-prices 0.2.3, from https://developers.openai.com/api/docs/pricing).
    First call: 400 * 0.15 + 20 * 0.60 = 72; second: 400 * 0.15 + 600 * 0.075 + 50 * 0.60 = 135 millionths.
    """

    def script(call: Call) -> Reply:
        if is_answering_a_tool(call):
            return Reply("It rains.", usage=Usage(input_tokens=400, cache_read_tokens=600, output_tokens=50))
        tool = ToolCall("weather", {"city": "Bergen"})
        return Reply(tool_calls=[tool], usage=Usage(input_tokens=400, output_tokens=20))

    check(Program(EXAMPLES / "langgraph_agent.py"), script, collector, "0.000207")


def test_openai_agents_and_the_openai_sdk(collector):
    """An agent of the Agents SDK with a second one as its tool, streamed, on the responses API.

    Per million tokens (genai-prices 0.2.3, from https://developers.openai.com/api/docs/pricing): gpt-5-mini
    $0.25 input, $0.025 cached, $2.00 output; gpt-5-nano $0.05 input, $0.40 output.
    Planner: 1000 * 0.25 + 100 * 2.00 = 450, then 500 * 0.25 + 1000 * 0.025 + 200 * 2.00 = 550;
    researcher: twice 300 * 0.05 + 50 * 0.40 = 35. Together 1,070 millionths.
    """

    def script(call: Call) -> Reply:
        if call.model == "gpt-5-nano":
            usage = Usage(input_tokens=300, output_tokens=50)
            tool = ToolCall("look_up", {"topic": "Kyoto"})
            return (
                Reply("April.", usage=usage)
                if is_answering_a_tool(call)
                else Reply(tool_calls=[tool], usage=usage)
            )
        if is_answering_a_tool(call):
            usage = Usage(input_tokens=500, cache_read_tokens=1000, output_tokens=80, reasoning_tokens=120)
            return Reply("Go in April.", usage=usage)
        tool = ToolCall("research", {"input": "Kyoto"})
        return Reply(tool_calls=[tool], usage=Usage(input_tokens=1000, output_tokens=100))

    # Without a key the Agents SDK does not upload its traces.
    check(Program(EXAMPLES / "research_agents.py"), script, collector, "0.00107", OPENAI_API_KEY="")


def test_pydantic_ai_and_the_anthropic_sdk(collector):
    """Pydantic AI's spans, the Anthropic SDK's own and an agent span with the sum of both agents.

    Per million tokens (genai-prices 0.2.3, from https://www.anthropic.com/pricing#api): claude-sonnet-4-6 $3
    input, $15 output, $0.30 cache read, $3.75 and $6 cache write kept for five minutes and for one hour;
    claude-haiku-4-5 $1 input, $5 output.
    Desk: 100 * 3 + 2000 * 3.75 + 1000 * 6 + 60 * 15 = 14,700, then 150 * 3 + 3000 * 0.30 + 80 * 15 = 2,550;
    expert: 200 * 1 + 40 * 5 = 400. Together 17,650 millionths; the house model has no price.
    """

    def script(call: Call) -> Reply:
        if call.model == "claude-haiku-4-5":
            return Reply("Once.", usage=Usage(input_tokens=200, output_tokens=40))
        if call.model == HOUSE_MODEL:
            return Reply("Charged twice", usage=Usage(input_tokens=90, output_tokens=4))
        if is_answering_a_tool(call):
            return Reply("Once.", usage=Usage(input_tokens=150, cache_read_tokens=3000, output_tokens=80))
        usage = Usage(input_tokens=100, cache_write_tokens=2000, cache_write_1h_tokens=1000, output_tokens=60)
        return Reply(tool_calls=[ToolCall("ask_expert", {"question": "twice?"})], usage=usage)

    check(Program(EXAMPLES / "support_agents.py"), script, collector, "0.01765")
    house = [
        span for span in collector.counted() if span.attributes.get("gen_ai.request.model") == HOUSE_MODEL
    ]
    assert [span.attributes["otel_cost.price.status"] for span in house] == ["unpriced"]
    assert house[0].cost_usd is None


def test_the_anthropic_sdk_and_an_instrumentor_beside_it(collector):
    """With both on, by the user's own wish, the span that tells cache writes apart is the one that counts.

    claude-sonnet-4-6 as above: 100 * 3 + 200 * 3.75 + 300 * 6 + 400 * 0.30 + 50 * 15 = 3,720 millionths.
    """
    code = """
    import anthropic
    client = anthropic.Anthropic()
    asked = dict(model="claude-sonnet-4-6", max_tokens=9, messages=[{"role": "user", "content": "hi"}])
    client.messages.create(**asked)
    with client.messages.stream(**asked) as stream: stream.get_final_message()
    """
    usage = Usage(
        input_tokens=100,
        cache_write_tokens=200,
        cache_write_1h_tokens=300,
        cache_read_tokens=400,
        output_tokens=20,
        reasoning_tokens=30,
    )
    both = {"ANTHROPIC_OPEN_TELEMETRY": "true", "OTEL_COST_INSTRUMENTORS": "anthropic=official"}
    check(Program(code), lambda call: Reply(usage=usage), collector, "0.00744", **both)
    scopes = {span.scope for span in collector.spans if "gen_ai.usage.input_tokens" in span.attributes}
    assert scopes == {"com.anthropic.sdk.python", "opentelemetry.instrumentation.genai.anthropic"}


def test_one_instrumentation_per_library_by_default(collector):
    """Without being asked, the Anthropic SDK's own spans are the only ones of a call."""
    code = """
    import anthropic
    asked = dict(model="claude-sonnet-4-6", max_tokens=9, messages=[{"role": "user", "content": "hi"}])
    anthropic.Anthropic().messages.create(**asked)
    """
    # 10 * 3 + 5 * 15 = 105 millionths.
    check(
        Program(code),
        lambda call: Reply(usage=Usage(input_tokens=10, output_tokens=5)),
        collector,
        "0.000105",
    )
    calls = [span.scope for span in collector.spans if "gen_ai.usage.input_tokens" in span.attributes]
    assert calls == ["com.anthropic.sdk.python"]
