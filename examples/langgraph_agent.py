"""A weather agent on LangGraph: a graph that alternates between a model and a tool, and streams its answer.

Nothing in here knows about cost or OpenTelemetry. See what it spends with

    otel-cost run --user carol --team field -- python examples/langgraph_agent.py
"""

import sys

from langchain_core.messages import AIMessageChunk
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition


@tool
def weather(city: str) -> str:
    """Return the weather of a city."""
    return f"It rains in {city}."


model = ChatOpenAI(model="gpt-4o-mini", stream_usage=True).bind_tools([weather])


def think(state: MessagesState) -> dict[str, list[object]]:
    """Ask the model what to do next."""
    return {"messages": [model.invoke(state["messages"])]}


graph = StateGraph(MessagesState)
graph.add_node("think", think)
graph.add_node("tools", ToolNode([weather]))
graph.add_edge(START, "think")
graph.add_conditional_edges("think", tools_condition)
graph.add_edge("tools", "think")
agent = graph.compile(name="weather")


def main(question: str) -> None:
    """Print the answer as it is written."""
    asked = {"messages": [{"role": "user", "content": question}]}
    for piece, _ in agent.stream(asked, stream_mode="messages"):
        if isinstance(piece, AIMessageChunk) and isinstance(piece.content, str):
            print(piece.content, end="", flush=True)
    print()


if __name__ == "__main__":
    main(" ".join(sys.argv[1:]) or "Do I need an umbrella in Bergen?")
