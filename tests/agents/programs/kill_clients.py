"""Model clients for the kill matrix: each makes one call and returns, sync or async, whole or streamed.

A maker gets the provider and returns a step. Libraries are imported inside: an environment has some of them.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any, NamedTuple

from otel_cost.fake_provider import FakeProvider

OUTPUT_TOKENS = 20_000
"""The output limit of every request, and what the provider bills."""
MESSAGES = [{"role": "user", "content": "hello"}]
GPT, CLAUDE, GEMINI = "gpt-4o", "claude-sonnet-4-6", "gemini-2.5-flash"
GPT_THINKING = "gpt-5-mini"
BEDROCK = "anthropic.claude-3-5-sonnet-20240620-v1:0"
MISTRAL, COHERE, LLAMA = "mistral-large-latest", "command-a-03-2025", "llama3.2"

Step = Callable[[], Any]


class Client(NamedTuple):
    """One way to call a model.

    Attributes:
        make: Returns the step; called inside the event loop where the step is async.
    """

    make: Callable[[FakeProvider], Step]
    model: str
    is_async: bool


CLIENTS: dict[str, Client] = {}


def client(name: str, model: str, *, is_async: bool = False) -> Callable[[Any], Any]:
    """Register a maker of steps."""

    def register(make: Any) -> Any:
        CLIENTS[name] = Client(make, model, is_async)
        return make

    return register


def use_up(stream: Iterable[Any]) -> None:
    """Read a stream to its end."""
    for _ in stream:
        pass


async def use_up_async(stream: AsyncIterator[Any]) -> None:
    """Read an async stream to its end."""
    async for _ in stream:
        pass


# --- OpenAI -----------------------------------------------------------------------------------------------

CHAT: dict[str, Any] = {"model": GPT, "messages": MESSAGES, "max_tokens": OUTPUT_TOKENS}
RESPONSES: dict[str, Any] = {"model": GPT, "input": "hello", "max_output_tokens": OUTPUT_TOKENS}


def _openai(provider: FakeProvider) -> Any:
    import openai

    return openai.OpenAI(base_url=provider.openai_url, api_key="none")


def _openai_async(provider: FakeProvider) -> Any:
    import openai

    return openai.AsyncOpenAI(base_url=provider.openai_url, api_key="none")


@client("openai chat", GPT)
def _openai_chat(provider: FakeProvider) -> Step:
    made = _openai(provider)
    return lambda: made.chat.completions.create(**CHAT)


@client("openai chat stream", GPT)
def _openai_chat_stream(provider: FakeProvider) -> Step:
    made = _openai(provider)
    options = {"stream": True, "stream_options": {"include_usage": True}}
    return lambda: use_up(made.chat.completions.create(**CHAT, **options))


@client("openai chat stream unasked", GPT_THINKING)
def _openai_chat_stream_unasked(provider: FakeProvider) -> Step:
    """The request does not ask for usage, and the model thinks: more is billed than the words that come."""
    made = _openai(provider)
    asked = {"model": GPT_THINKING, "messages": MESSAGES, "max_completion_tokens": OUTPUT_TOKENS}
    return lambda: use_up(made.chat.completions.create(**asked, stream=True))


@client("openai chat async", GPT, is_async=True)
def _openai_chat_async(provider: FakeProvider) -> Step:
    made = _openai_async(provider)
    return lambda: made.chat.completions.create(**CHAT)


@client("openai chat async stream", GPT, is_async=True)
def _openai_chat_async_stream(provider: FakeProvider) -> Step:
    made = _openai_async(provider)
    options = {"stream": True, "stream_options": {"include_usage": True}}

    async def step() -> None:
        await use_up_async(await made.chat.completions.create(**CHAT, **options))

    return step


@client("openai responses", GPT)
def _openai_responses(provider: FakeProvider) -> Step:
    made = _openai(provider)
    return lambda: made.responses.create(**RESPONSES)


@client("openai responses stream", GPT)
def _openai_responses_stream(provider: FakeProvider) -> Step:
    made = _openai(provider)
    return lambda: use_up(made.responses.create(**RESPONSES, stream=True))


@client("openai responses async", GPT, is_async=True)
def _openai_responses_async(provider: FakeProvider) -> Step:
    made = _openai_async(provider)
    return lambda: made.responses.create(**RESPONSES)


@client("openai responses async stream", GPT, is_async=True)
def _openai_responses_async_stream(provider: FakeProvider) -> Step:
    made = _openai_async(provider)

    async def step() -> None:
        await use_up_async(await made.responses.create(**RESPONSES, stream=True))

    return step


# --- Anthropic --------------------------------------------------------------------------------------------

CLAUDE_CALL: dict[str, Any] = {"model": CLAUDE, "messages": MESSAGES, "max_tokens": OUTPUT_TOKENS}


@client("anthropic", CLAUDE)
def _anthropic(provider: FakeProvider) -> Step:
    import anthropic

    made = anthropic.Anthropic(base_url=provider.url, api_key="none")
    return lambda: made.messages.create(**CLAUDE_CALL)


@client("anthropic stream", CLAUDE)
def _anthropic_stream(provider: FakeProvider) -> Step:
    import anthropic

    made = anthropic.Anthropic(base_url=provider.url, api_key="none")

    def step() -> None:
        with made.messages.stream(**CLAUDE_CALL) as stream:
            stream.get_final_message()

    return step


@client("anthropic async", CLAUDE, is_async=True)
def _anthropic_async(provider: FakeProvider) -> Step:
    import anthropic

    made = anthropic.AsyncAnthropic(base_url=provider.url, api_key="none")
    return lambda: made.messages.create(**CLAUDE_CALL)


@client("anthropic async stream", CLAUDE, is_async=True)
def _anthropic_async_stream(provider: FakeProvider) -> Step:
    import anthropic

    made = anthropic.AsyncAnthropic(base_url=provider.url, api_key="none")

    async def step() -> None:
        await use_up_async(await made.messages.create(**CLAUDE_CALL, stream=True))

    return step


# --- Bedrock ----------------------------------------------------------------------------------------------


def _bedrock(provider: FakeProvider) -> Any:
    import boto3

    keys = {"aws_access_key_id": "none", "aws_secret_access_key": "none"}
    return boto3.client("bedrock-runtime", region_name="us-east-1", endpoint_url=provider.url, **keys)


CONVERSE: dict[str, Any] = {
    "modelId": BEDROCK,
    "messages": [{"role": "user", "content": [{"text": "hello"}]}],
    "inferenceConfig": {"maxTokens": OUTPUT_TOKENS},
}


@client("bedrock converse", BEDROCK)
def _bedrock_converse(provider: FakeProvider) -> Step:
    made = _bedrock(provider)
    return lambda: made.converse(**CONVERSE)


@client("bedrock converse stream", BEDROCK)
def _bedrock_converse_stream(provider: FakeProvider) -> Step:
    made = _bedrock(provider)
    return lambda: use_up(made.converse_stream(**CONVERSE)["stream"])


# --- Gemini -----------------------------------------------------------------------------------------------


def _gemini(provider: FakeProvider, **options: Any) -> tuple[Any, dict[str, Any]]:
    from google import genai
    from google.genai.types import GenerateContentConfig, HttpOptions

    made = genai.Client(api_key="none", http_options=HttpOptions(base_url=provider.url, **options))
    asked = {"model": GEMINI, "contents": "hello"}
    return made, asked | {"config": GenerateContentConfig(max_output_tokens=OUTPUT_TOKENS)}


INTERACTION: dict[str, Any] = {
    "model": GEMINI,
    "input": "hello",
    "generation_config": {"max_output_tokens": OUTPUT_TOKENS},
}


@client("google-interactions", GEMINI)
def _google_interaction(provider: FakeProvider) -> Step:
    made, _ = _gemini(provider)
    return lambda: made.interactions.create(**INTERACTION)


@client("google-interactions stream", GEMINI)
def _google_interaction_stream(provider: FakeProvider) -> Step:
    made, _ = _gemini(provider)
    return lambda: use_up(made.interactions.create(**INTERACTION, stream=True))


@client("google-interactions async", GEMINI, is_async=True)
def _google_interaction_async(provider: FakeProvider) -> Step:
    made, _ = _gemini(provider)
    return lambda: made.aio.interactions.create(**INTERACTION)


@client("google-genai", GEMINI)
def _google(provider: FakeProvider) -> Step:
    made, asked = _gemini(provider)
    return lambda: made.models.generate_content(**asked)


@client("google-genai stream", GEMINI)
def _google_stream(provider: FakeProvider) -> Step:
    made, asked = _gemini(provider)
    return lambda: use_up(made.models.generate_content_stream(**asked))


@client("google-genai async", GEMINI, is_async=True)
def _google_async(provider: FakeProvider) -> Step:
    """Through aiohttp, which is used whenever it is installed."""
    made, asked = _gemini(provider)
    return lambda: made.aio.models.generate_content(**asked)


@client("google-genai async stream", GEMINI, is_async=True)
def _google_async_stream(provider: FakeProvider) -> Step:
    made, asked = _gemini(provider)

    async def step() -> None:
        await use_up_async(await made.aio.models.generate_content_stream(**asked))

    return step


@client("google-genai async httpx", GEMINI, is_async=True)
def _google_async_httpx(provider: FakeProvider) -> Step:
    """Through a client of the application's own, as without aiohttp."""
    import httpx2

    made, asked = _gemini(provider, httpx_async_client=httpx2.AsyncClient())
    return lambda: made.aio.models.generate_content(**asked)


# --- Mistral, Cohere, Ollama ------------------------------------------------------------------------------

MISTRAL_CALL: dict[str, Any] = {"model": MISTRAL, "messages": MESSAGES, "max_tokens": OUTPUT_TOKENS}
COHERE_CALL: dict[str, Any] = {"model": COHERE, "messages": MESSAGES, "max_tokens": OUTPUT_TOKENS}
LLAMA_CALL: dict[str, Any] = {
    "model": LLAMA,
    "messages": MESSAGES,
    "options": {"num_predict": OUTPUT_TOKENS},
}


def _mistral(provider: FakeProvider) -> Any:
    from mistralai.client import Mistral

    return Mistral(api_key="none", server_url=provider.url)


@client("mistral", MISTRAL)
def _mistral_chat(provider: FakeProvider) -> Step:
    made = _mistral(provider)
    return lambda: made.chat.complete(**MISTRAL_CALL)


@client("mistral stream", MISTRAL)
def _mistral_stream(provider: FakeProvider) -> Step:
    made = _mistral(provider)
    return lambda: use_up(made.chat.stream(**MISTRAL_CALL))


@client("mistral async", MISTRAL, is_async=True)
def _mistral_async(provider: FakeProvider) -> Step:
    made = _mistral(provider)
    return lambda: made.chat.complete_async(**MISTRAL_CALL)


@client("cohere", COHERE)
def _cohere(provider: FakeProvider) -> Step:
    import cohere

    made = cohere.ClientV2(api_key="none", base_url=provider.url)
    return lambda: made.chat(**COHERE_CALL)


@client("cohere stream", COHERE)
def _cohere_stream(provider: FakeProvider) -> Step:
    import cohere

    made = cohere.ClientV2(api_key="none", base_url=provider.url)
    return lambda: use_up(made.chat_stream(**COHERE_CALL))


@client("cohere async", COHERE, is_async=True)
def _cohere_async(provider: FakeProvider) -> Step:
    import cohere

    made = cohere.AsyncClientV2(api_key="none", base_url=provider.url)
    return lambda: made.chat(**COHERE_CALL)


@client("ollama", LLAMA)
def _ollama(provider: FakeProvider) -> Step:
    import ollama

    made = ollama.Client(host=provider.url)
    return lambda: made.chat(**LLAMA_CALL)


@client("ollama stream", LLAMA)
def _ollama_stream(provider: FakeProvider) -> Step:
    import ollama

    made = ollama.Client(host=provider.url)
    return lambda: use_up(made.chat(**LLAMA_CALL, stream=True))


@client("ollama async", LLAMA, is_async=True)
def _ollama_async(provider: FakeProvider) -> Step:
    import ollama

    made = ollama.AsyncClient(host=provider.url)
    return lambda: made.chat(**LLAMA_CALL)


# --- LiteLLM ----------------------------------------------------------------------------------------------


def _litellm(provider: FakeProvider) -> tuple[Any, dict[str, Any]]:
    # LiteLLM downloads its price list when it is imported, unless told not to.
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    import litellm

    asked = {"model": f"openai/{GPT}", "messages": MESSAGES, "max_tokens": OUTPUT_TOKENS}
    return litellm, asked | {"api_base": provider.openai_url, "api_key": "none"}


@client("litellm", GPT)
def _litellm_sync(provider: FakeProvider) -> Step:
    litellm, asked = _litellm(provider)
    return lambda: litellm.completion(**asked)


@client("litellm stream", GPT)
def _litellm_stream(provider: FakeProvider) -> Step:
    litellm, asked = _litellm(provider)
    options = {"stream": True, "stream_options": {"include_usage": True}}
    return lambda: use_up(litellm.completion(**asked, **options))


@client("litellm async", GPT, is_async=True)
def _litellm_async(provider: FakeProvider) -> Step:
    litellm, asked = _litellm(provider)
    return lambda: litellm.acompletion(**asked)


@client("litellm async stream", GPT, is_async=True)
def _litellm_async_stream(provider: FakeProvider) -> Step:
    litellm, asked = _litellm(provider)
    options = {"stream": True, "stream_options": {"include_usage": True}}

    async def step() -> None:
        await use_up_async(await litellm.acompletion(**asked, **options))

    return step


@client("litellm anthropic", CLAUDE)
def _litellm_anthropic(provider: FakeProvider) -> Step:
    """LiteLLM's own HTTP handler, without a provider's SDK."""
    litellm, asked = _litellm(provider)
    asked |= {"model": f"anthropic/{CLAUDE}", "api_base": provider.url}
    return lambda: litellm.completion(**asked)


@client("litellm anthropic async", CLAUDE, is_async=True)
def _litellm_anthropic_async(provider: FakeProvider) -> Step:
    """LiteLLM's own HTTP handler, which puts aiohttp below httpx."""
    litellm, asked = _litellm(provider)
    asked |= {"model": f"anthropic/{CLAUDE}", "api_base": provider.url}
    step: Callable[[], Awaitable[Any]] = lambda: litellm.acompletion(**asked)  # noqa: E731 (typed)
    return step
