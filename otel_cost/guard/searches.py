"""Searches that a provider makes and bills while it answers: those a request allows, those an answer lists.

Anthropic, Perplexity and Google's interactions count them in their usage; OpenAI and Gemini do not.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from otel_cost.documents import objects

Json = dict[str, Any]

UNLIMITED = 10
"""Searches of a request that allows them and sets no limit: providers set none either."""
WEB_TOKENS = 8_000
"""What a web search adds to a prompt: as much as OpenAI bills its small models for each; others by what is
found. https://platform.openai.com/docs/pricing (2026-11)"""
FILE_TOKENS = 16_000
"""What a search of files adds: twenty pieces of 800 tokens.
https://platform.openai.com/docs/guides/tools-file-search (2026-11)"""

_GOOGLE_TOOLS = ("google_search", "googleSearch", "google_search_retrieval", "googleSearchRetrieval")
_BILLED_BY_PROMPT = re.compile(r"gemini-(?:live-)?[12]\.\d")
"""Gemini bills its later models for each query, these once for a prompt that was searched for.

https://ai.google.dev/gemini-api/docs/pricing (2026-11); what is free a day or a month is not taken off.
"""


class Allowed(NamedTuple):
    """Searches that a request lets its provider make.

    Attributes:
        web: Of the web.
        files: Of the customer's files.
        tokens: What all of them add to the prompt; Google bills nothing for what it finds.
    """

    web: int = 0
    files: int = 0
    tokens: int = 0


NONE = Allowed()


def allowed(body: Json, model: str, calls: int = UNLIMITED) -> Allowed:
    """Return how many searches a request allows, and at most `calls` of each kind.

    https://platform.openai.com/docs/guides/tools-web-search (2026-11),
    https://platform.claude.com/docs/en/agents-and-tools/tool-use/web-search-tool (2026-11),
    https://ai.google.dev/gemini-api/docs/google-search (2026-11)
    """
    if "tools" not in body:
        return NONE
    web = files = tokens = 0
    for tool in objects(body["tools"]):
        kind = tool.get("type")
        kind = kind if isinstance(kind, str) else ""
        if kind == "google_search" or any(name in tool for name in _GOOGLE_TOOLS):
            web = min(calls, 1 if _BILLED_BY_PROMPT.search(model) else UNLIMITED)
        elif kind.startswith("web_search"):
            web = min(calls, _number(tool, "max_uses") or _number(body, "max_tool_calls") or UNLIMITED)
            tokens += web * WEB_TOKENS
        elif kind == "file_search" and "vector_store_ids" in tool:
            files = min(calls, _number(body, "max_tool_calls") or UNLIMITED)
            tokens += files * FILE_TOKENS
    return Allowed(web, files, tokens) if web or files else NONE


def _number(holder: Json, name: str) -> int:
    value = holder.get(name)
    return value if type(value) is int and value > 0 else 0


@dataclass(slots=True)
class Listed:
    """Searches that an answer lists and its usage does not count."""

    files: int = 0
    _calls: int = 0
    _queries: set[str] = field(default_factory=set)

    def web(self, model: str) -> int:
        """Return how many searches of the web are billed, of the model that answered."""
        if self._queries and _BILLED_BY_PROMPT.search(model):
            return 1
        return len(self._queries) or self._calls

    def take(self, document: Json) -> None:
        """Count the searches in a whole answer, or in one event of a streamed one."""
        if "candidates" in document:
            for candidate in objects(document["candidates"]):
                if "groundingMetadata" in candidate:
                    self._take_queries(candidate["groundingMetadata"])
            return
        whole = document.get("response", document)
        items = whole.get("output") if isinstance(whole, dict) else None
        if isinstance(items, list):
            self._calls = max(self._calls, sum(map(_is_web_search, items)))
            self.files = max(self.files, sum(map(_is_file_search, items)))
        elif document.get("type") == "response.output_item.done":
            self._calls += _is_web_search(document.get("item"))
            self.files += _is_file_search(document.get("item"))

    def _take_queries(self, grounding: Any) -> None:
        """Gemini's: each query counts once, an empty one does not."""
        queries = grounding.get("webSearchQueries") if isinstance(grounding, dict) else None
        if isinstance(queries, list):
            self._queries.update(query for query in queries if isinstance(query, str) and query.strip())


def _is_web_search(item: Any) -> bool:
    """Whether an item of an answer is a web search that is billed: opening or reading a page is not."""
    if not isinstance(item, dict) or item.get("type") != "web_search_call":
        return False
    action = item.get("action")
    return not isinstance(action, dict) or action.get("type", "search") == "search"


def _is_file_search(item: Any) -> bool:
    return isinstance(item, dict) and item.get("type") == "file_search_call"
