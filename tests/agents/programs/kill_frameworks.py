"""Agents for the kill matrix, by framework: each calls its tool again and again and never ends by itself.

The provider answers every request with another tool call; the frameworks' own limits are out of reach.
"""

from __future__ import annotations

import os
from typing import Any

from otel_cost.fake_provider import FakeProvider
from tests.agents.programs.kill_clients import (
    CLAUDE,
    GPT,
    OUTPUT_TOKENS,
    Step,
    client,
    use_up,
    use_up_async,
)

NEVER = 10**6
"""Where a framework asks for a limit to turns."""


def weather(city: str) -> str:
    """Return the weather in a city.

    Args:
        city: Where.
    """
    return f"It rains in {city}."


# --- LangChain, LangGraph ---------------------------------------------------------------------------------


def _langchain_model(provider: FakeProvider) -> Any:
    from langchain_openai import ChatOpenAI

    # As it is by default at OpenAI's own address.
    options = {"stream_usage": True, "max_tokens": OUTPUT_TOKENS}
    return ChatOpenAI(model=GPT, base_url=provider.openai_url, api_key="none", **options)


def _langgraph_agent(provider: FakeProvider) -> tuple[Any, dict[str, Any]]:
    from langchain_core.runnables import RunnableLambda
    from langchain_core.tools import tool
    from langgraph.graph import START, MessagesState, StateGraph
    from langgraph.prebuilt import ToolNode, tools_condition

    tools = [tool(weather)]
    model = _langchain_model(provider).bind_tools(tools)

    def think(state: Any) -> dict[str, Any]:
        return {"messages": [model.invoke(state["messages"])]}

    async def think_async(state: Any) -> dict[str, Any]:
        return {"messages": [await model.ainvoke(state["messages"])]}

    graph = StateGraph(MessagesState)
    graph.add_node("think", RunnableLambda(think, afunc=think_async))
    graph.add_node("tools", ToolNode(tools))
    graph.add_edge(START, "think")
    graph.add_conditional_edges("think", tools_condition)
    graph.add_edge("tools", "think")
    return graph.compile(), {"config": {"recursion_limit": NEVER}}


QUESTION = {"messages": [("user", "What is the weather in Bergen?")]}


@client("langchain", GPT)
def _langchain(provider: FakeProvider) -> Step:
    made = _langchain_model(provider)
    return lambda: made.invoke("hello")


@client("langchain stream", GPT)
def _langchain_stream(provider: FakeProvider) -> Step:
    made = _langchain_model(provider)
    return lambda: use_up(made.stream("hello"))


@client("langchain async", GPT, is_async=True)
def _langchain_async(provider: FakeProvider) -> Step:
    made = _langchain_model(provider)
    return lambda: made.ainvoke("hello")


@client("langchain async stream", GPT, is_async=True)
def _langchain_async_stream(provider: FakeProvider) -> Step:
    made = _langchain_model(provider)
    return lambda: use_up_async(made.astream("hello"))


@client("langgraph", GPT)
def _langgraph(provider: FakeProvider) -> Step:
    agent, options = _langgraph_agent(provider)
    return lambda: agent.invoke(QUESTION, **options)


@client("langgraph stream", GPT)
def _langgraph_stream(provider: FakeProvider) -> Step:
    agent, options = _langgraph_agent(provider)
    return lambda: use_up(agent.stream(QUESTION, **options))


@client("langgraph async", GPT, is_async=True)
def _langgraph_async(provider: FakeProvider) -> Step:
    agent, options = _langgraph_agent(provider)
    return lambda: agent.ainvoke(QUESTION, **options)


@client("langgraph async stream", GPT, is_async=True)
def _langgraph_async_stream(provider: FakeProvider) -> Step:
    agent, options = _langgraph_agent(provider)
    return lambda: use_up_async(agent.astream(QUESTION, stream_mode="messages", **options))


# --- OpenAI Agents ----------------------------------------------------------------------------------------


def _agents(provider: FakeProvider, kind: str) -> Any:
    import agents
    import openai

    model = getattr(agents, kind)(
        model=GPT, openai_client=openai.AsyncOpenAI(base_url=provider.openai_url, api_key="none")
    )
    return agents, agents.Agent(
        name="weather",
        model=model,
        model_settings=agents.ModelSettings(max_tokens=OUTPUT_TOKENS),
        tools=[agents.function_tool(weather)],
    )


@client("openai-agents", GPT)
def _openai_agents(provider: FakeProvider) -> Step:
    agents, agent = _agents(provider, "OpenAIResponsesModel")
    return lambda: agents.Runner.run_sync(agent, "hello", max_turns=NEVER)


@client("openai-agents async", GPT, is_async=True)
def _openai_agents_async(provider: FakeProvider) -> Step:
    agents, agent = _agents(provider, "OpenAIResponsesModel")
    return lambda: agents.Runner.run(agent, "hello", max_turns=NEVER)


@client("openai-agents async chat", GPT, is_async=True)
def _openai_agents_chat(provider: FakeProvider) -> Step:
    agents, agent = _agents(provider, "OpenAIChatCompletionsModel")
    return lambda: agents.Runner.run(agent, "hello", max_turns=NEVER)


@client("openai-agents async stream", GPT, is_async=True)
def _openai_agents_stream(provider: FakeProvider) -> Step:
    agents, agent = _agents(provider, "OpenAIResponsesModel")

    async def step() -> None:
        running = agents.Runner.run_streamed(agent, "hello", max_turns=NEVER)
        async for _ in running.stream_events():
            pass

    return step


# --- Pydantic AI ------------------------------------------------------------------------------------------


def _pydantic_agent(model: Any) -> Any:
    from pydantic_ai import Agent
    from pydantic_ai.usage import UsageLimits

    agent = Agent(model, tools=[weather], model_settings={"max_tokens": OUTPUT_TOKENS})
    return agent, {"usage_limits": UsageLimits(request_limit=None)}


def _pydantic_openai(provider: FakeProvider) -> Any:
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    own = OpenAIProvider(base_url=provider.openai_url, api_key="none")
    return _pydantic_agent(OpenAIChatModel(GPT, provider=own))


@client("pydantic-ai", GPT)
def _pydantic(provider: FakeProvider) -> Step:
    agent, options = _pydantic_openai(provider)
    return lambda: agent.run_sync("hello", **options)


@client("pydantic-ai async", GPT, is_async=True)
def _pydantic_async(provider: FakeProvider) -> Step:
    agent, options = _pydantic_openai(provider)
    return lambda: agent.run("hello", **options)


@client("pydantic-ai async stream", GPT, is_async=True)
def _pydantic_stream(provider: FakeProvider) -> Step:
    agent, options = _pydantic_openai(provider)

    async def step() -> None:
        async with agent.run_stream("hello", **options) as running:
            async for _ in running.stream_text():
                pass

    return step


@client("pydantic-ai anthropic async", CLAUDE, is_async=True)
def _pydantic_anthropic(provider: FakeProvider) -> Step:
    from pydantic_ai.models.anthropic import AnthropicModel
    from pydantic_ai.providers.anthropic import AnthropicProvider

    os.environ["ANTHROPIC_BASE_URL"] = provider.url
    agent, options = _pydantic_agent(AnthropicModel(CLAUDE, provider=AnthropicProvider(api_key="none")))
    return lambda: agent.run("hello", **options)


# --- smolagents -------------------------------------------------------------------------------------------


def _smolagent(model: Any) -> Step:
    import smolagents

    agent = smolagents.ToolCallingAgent(tools=[smolagents.tool(weather)], model=model, verbosity_level=0)
    return lambda: agent.run("hello", max_steps=NEVER)


@client("smolagents openai", GPT)
def _smolagents_openai(provider: FakeProvider) -> Step:
    import smolagents

    options = {"api_base": provider.openai_url, "api_key": "none", "max_tokens": OUTPUT_TOKENS}
    return _smolagent(smolagents.OpenAIModel(GPT, **options))


@client("smolagents litellm", GPT)
def _smolagents_litellm(provider: FakeProvider) -> Step:
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    import smolagents

    options = {"api_base": provider.openai_url, "api_key": "none", "max_tokens": OUTPUT_TOKENS}
    return _smolagent(smolagents.LiteLLMModel(f"openai/{GPT}", **options))


# --- CrewAI -----------------------------------------------------------------------------------------------


def _crew(provider: FakeProvider) -> Any:
    import crewai
    from crewai.tools import tool

    options = {"base_url": provider.openai_url, "api_key": "none", "max_tokens": OUTPUT_TOKENS}
    llm = crewai.LLM(model=f"openai/{GPT}", **options)
    agent = crewai.Agent(
        role="guide", goal="tell", backstory="none", llm=llm, tools=[tool("weather")(weather)], max_iter=NEVER
    )
    task = crewai.Task(description="Tell the weather.", expected_output="Weather.", agent=agent)
    return crewai.Crew(agents=[agent], tasks=[task])


@client("crewai", GPT)
def _crewai(provider: FakeProvider) -> Step:
    return lambda: _crew(provider).kickoff()


@client("crewai async", GPT, is_async=True)
def _crewai_async(provider: FakeProvider) -> Step:
    return lambda: _crew(provider).kickoff_async()
