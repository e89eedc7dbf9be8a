"""A support desk of two agents on Pydantic AI: the desk asks an expert on Claude and a summarizer of its own.

Nothing in here knows about cost or OpenTelemetry. See what it spends with

    otel-cost run --user bob --team support -- python examples/support_agents.py
"""

import asyncio
import sys

from openai import AsyncOpenAI
from pydantic_ai import Agent, RunContext

desk = Agent(
    "anthropic:claude-sonnet-4-6",
    name="desk",
    instructions="You are the support desk. Ask the expert, then answer the customer.",
)
expert = Agent(
    "anthropic:claude-haiku-4-5",
    name="expert",
    instructions="You are the billing expert. Answer in one sentence.",
)


@desk.tool
async def ask_expert(ctx: RunContext[None], question: str) -> str:
    """Ask the billing expert; what it uses counts as the desk's usage."""
    answer = await expert.run(question, usage=ctx.usage)
    return answer.output


async def summarize(text: str) -> str:
    """Return a title for the ticket, made by a model of our own that no price list knows."""
    async with AsyncOpenAI() as client:
        reply = await client.chat.completions.create(
            model="house-summarizer-2", messages=[{"role": "user", "content": f"Summarize: {text}"}]
        )
    return reply.choices[0].message.content or ""


async def main(question: str) -> None:
    """Print the answer, then the title of the ticket."""
    answer = await desk.run(question)
    print(answer.output)
    print(await summarize(answer.output))


if __name__ == "__main__":
    asyncio.run(main(" ".join(sys.argv[1:]) or "Why was I charged twice?"))
