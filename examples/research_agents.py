"""A trip planner of two agents on the OpenAI Agents SDK: one is a tool of the other, the answer is streamed.

Nothing in here knows about cost or OpenTelemetry. See what it spends with

    otel-cost run --user alice --team travel -- python examples/research_agents.py
"""

import asyncio
import os
import sys

from agents import Agent, Runner, function_tool, set_default_openai_client
from openai import AsyncOpenAI

client = AsyncOpenAI(api_key=os.environ.get("OPENAI_API_KEY", "none"))
set_default_openai_client(client, use_for_tracing=False)


@function_tool
def look_up(topic: str) -> str:
    """Look a topic up in the travel guide."""
    return f"{topic}: best seen in April, open from nine to five."


researcher = Agent(
    name="Researcher",
    model="gpt-5-nano",
    instructions="You are the researcher. Look facts up before you answer.",
    tools=[look_up],
)
planner = Agent(
    name="Planner",
    model="gpt-5-mini",
    instructions="You are the planner. Ask the researcher for facts, then write the plan.",
    tools=[researcher.as_tool("research", "Ask the researcher about one subject.")],
)


async def main(question: str) -> None:
    """Print the plan as it is written."""
    run = Runner.run_streamed(planner, question)
    async for event in run.stream_events():
        if event.type == "raw_response_event" and event.data.type == "response.output_text.delta":
            print(event.data.delta, end="", flush=True)
    print()
    await client.close()


if __name__ == "__main__":
    asyncio.run(main(" ".join(sys.argv[1:]) or "Plan a day in Kyoto."))
