"""A price watcher on the OpenAI Agents SDK that never ends: its tool brings nothing, and it survives errors.

Nothing in here knows about cost or budgets. Watch it being stopped with

    OTEL_COST_BUDGET_USD=0.021 otel-cost run --user carol --team search -- python examples/runaway_agent.py
"""

import asyncio
import os

from agents import Agent, ModelSettings, Runner, function_tool, set_default_openai_client
from openai import AsyncOpenAI

client = AsyncOpenAI(api_key=os.environ.get("OPENAI_API_KEY", "none"))
set_default_openai_client(client, use_for_tracing=False)


@function_tool
def read_page(url: str) -> str:
    """Read a page of the shop."""
    return "The page is being prepared, try again."


watcher = Agent(
    name="Watcher",
    model="gpt-5-mini",
    instructions="You are the price watcher. Do not give up before you have the price.",
    tools=[read_page],
    model_settings=ModelSettings(max_tokens=2000),
)


async def main() -> None:
    """Ask until there is an answer."""
    while True:
        try:
            answer = await Runner.run(watcher, "What does the blue bicycle cost?", max_turns=1000)
            print(answer.final_output)
            return
        except Exception as error:  # noqa: PERF203 (what a runaway looks like)
            print(f"trying again after {error}")


if __name__ == "__main__":
    asyncio.run(main())
