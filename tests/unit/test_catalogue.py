"""Which price entry a name means, in Python and as regular expressions."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from functools import cache

import pytest

from otel_cost.catalogue import PatternRow, why_unpriced
from otel_cost.pricing import PriceBook
from otel_cost.providers import (
    ADDRESSES,
    ENDPOINTS,
    PROVIDERS,
    biller,
    canonical_provider,
    endpoint_provider,
    is_regional,
    provider_regexp,
)
from tests.data import lines

NAMES = [
    # provider, model, entry's provider, entry's model
    ("openai", "gpt-4o-2024-08-06", "openai", "gpt-4o"),
    ("openai", "gpt-4o-2024-05-13", "openai", "gpt-4o-2024-05-13"),
    ("openai", "gpt-4o-20240513", "openai", "gpt-4o-2024-05-13"),
    ("openai", "gpt-5.2-20251211", "openai", "gpt-5.2"),
    ("OpenAI", "GPT-4o", "openai", "gpt-4o"),
    ("openai.chat", "gpt-4.1-mini", "openai", "gpt-4.1-mini"),
    ("openai.responses", "o4-mini-2025-04-16", "openai", "o4-mini"),
    ("anthropic", "claude-3-7-sonnet-latest", "anthropic", "claude-3-7-sonnet-latest"),
    ("anthropic.messages", "claude-opus-4-5-20251101", "anthropic", "claude-opus-4-5"),
    ("com.anthropic.sdk.python", "claude-opus-5", "anthropic", "claude-opus-5"),
    ("langchain", "claude-haiku-4-5", "anthropic", "claude-haiku-4-5"),
    ("Langchain", "o3-mini", "openai", "o3-mini"),
    ("strands-agents", "us.anthropic.claude-opus-4-6-v1", "aws", "regional.anthropic.claude-opus-4-6-v1:0"),
    ("unknown", "gemini-2.5-pro", "google", "gemini-2.5-pro"),
    ("", "mistral-small-latest", "mistral", "mistral-small-latest"),
    ("", "grok-4-0709", "x-ai", "grok-4-0709"),
    ("", "sonar-pro", "perplexity", "sonar-pro"),
    ("openrouter", "anthropic/claude-4.5-sonnet-20250929", "openrouter", "anthropic/claude-sonnet-4.5"),
    ("litellm", "openrouter/google/gemini-2.5-flash", "openrouter", "google/gemini-2.5-flash"),
    ("litellm", "litellm_proxy/openrouter/openai/gpt-5-mini", "openrouter", "openai/gpt-5-mini"),
    ("openai", "openrouter/openai/gpt-5-mini", "openrouter", "openai/gpt-5-mini"),
    ("openrouter", "qwen/qwen-turbo", "openrouter", "qwen/qwen-turbo"),
    ("openrouter", "maker/model:free", "openrouter", ":free"),
    ("openrouter", "openai/gpt-4o:nitro", "openrouter", "openai/gpt-4o:routed"),
    ("litellm", "azure/gpt-4.1", "azure", "gpt-4.1"),
    ("litellm", "litellm_proxy/anthropic/claude-3-7-sonnet-latest", "anthropic", "claude-3-7-sonnet-latest"),
    ("openai", "anthropic/claude-3-7-sonnet-latest", "anthropic", "claude-3-7-sonnet-latest"),
    ("litellm", "groq/llama-3.1-8b-instant", "groq", "llama-3.1-8b-instant"),
    ("groq", "openai/gpt-oss-20b", "groq", "openai/gpt-oss-20b"),
    ("azure.ai.openai", "gpt-4o", "azure", "gpt-4o"),
    ("az.ai.openai", "gpt-5-mini-2025-08-07", "azure", "gpt-5-mini"),
    ("azure", "claude-opus-4-8", "azure", "claude-opus-4-8"),
    ("azure", "eu/gpt-4o", "azure", "gpt-4o:data-zone"),
    (
        "aws.bedrock",
        "anthropic.claude-3-haiku-20240307-v1:0",
        "aws",
        "regional.anthropic.claude-3-haiku-20240307-v1:0",
    ),
    ("aws_bedrock", "global.anthropic.claude-opus-5", "aws", "global.anthropic.claude-opus-5"),
    ("bedrock", "bedrock/eu.anthropic.claude-opus-4-6-v1", "aws", "regional.anthropic.claude-opus-4-6-v1:0"),
    (
        "aws.bedrock",
        "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.anthropic.claude-sonnet-4-5-20250929-v1:0",
        "aws",
        "regional.anthropic.claude-sonnet-4-5-20250929-v1:0",
    ),
    (
        "anthropic",
        "arn:aws:bedrock:us-east-1::foundation-model/anthropic.claude-3-5-sonnet-20240620-v1:0",
        "aws",
        "regional.anthropic.claude-3-5-sonnet-20240620-v1:0",
    ),
    ("anthropic", "us.anthropic.claude-opus-4-6-v1", "aws", "regional.anthropic.claude-opus-4-6-v1:0"),
    ("anthropic", "anthropic.claude-v2", "anthropic", "claude-2"),
    (
        "gcp.vertex_ai",
        "projects/p/locations/us/publishers/google/models/gemini-2.0-flash",
        "google",
        "gemini-2.0-flash",
    ),
    ("gcp.vertex.agent", "gemini-2.5-flash", "google", "gemini-2.5-flash"),
    ("gcp.gemini", "models/gemini-2.5-pro", "google", "gemini-2.5-pro"),
    ("google.generative-ai", "gemini-3-pro-preview", "google", "gemini-3-pro-preview"),
    ("google.vertex", "claude-sonnet-4-5@20250929", "google", "claude-sonnet-4-5"),
    ("gcp.gen_ai", "gemini-2.0-flash-001", "google", "gemini-2.0-flash"),
    ("litellm", "vertex_ai/gemini-2.5-pro", "google", "gemini-2.5-pro"),
    ("litellm", "gemini/gemini-2.5-flash", "google", "gemini-2.5-flash"),
    ("xai", "grok-3", "x-ai", "grok-3"),
    ("x_ai", "grok-3", "x-ai", "grok-3"),
    ("mistral_ai", "mistral-small-latest", "mistral", "mistral-small-latest"),
    ("mistralai", "mistral-large-2411", "mistral", "mistral-large"),
    ("moonshot_ai", "kimi-k2.5", "moonshotai", "kimi-k2.5"),
    (
        "together_ai",
        "meta-llama/Llama-3.3-70B-Instruct-Turbo",
        "together",
        "meta-llama/llama-3.3-70b-instruct-turbo",
    ),
    ("fireworks", "accounts/fireworks/models/gpt-oss-120b", "fireworks", "gpt-oss-120b"),
    ("openai", "ft:gpt-4o-mini-2024-07-18:org::id", "openai", "ft:gpt-4o-mini"),
    ("openai", "ft:gpt-4.1-2025-04-14:org:suffix:id", "openai", "ft:gpt-4.1"),
    ("openai", "ft:gpt-5:org::id", "openai", "gpt-5:fine-tuned"),
    ("openai", "text-embedding-3-small", "openai", "text-embedding-3-small"),
    # Claude Code's names for a context of a million tokens.
    ("anthropic", "claude-sonnet-4-5[1m]", "anthropic", "claude-sonnet-4-5"),
    ("anthropic", "claude-sonnet-4-5-20250929[1m]", "anthropic", "claude-sonnet-4-5"),
    ("", "claude-opus-4-6[1m]", "anthropic", "claude-opus-4-6"),
    ("vertex_ai", "claude-sonnet-4-5@20250929[1m]", "google", "claude-sonnet-4-5"),
    (
        "aws.bedrock",
        "global.anthropic.claude-opus-4-6-v1[1m]",
        "aws",
        "global.anthropic.claude-opus-4-6-v1:0",
    ),
]

UNPRICED = [
    # Newer siblings, of which the rules of the catalogue would make older ones.
    ("google", "gemini-3.6-flash-lite"),
    ("google", "gemini-3.8-flash-cyber"),
    ("google", "gemini-2.5-pro-sing"),
    ("google", "gemini-3-pro-preview-nano"),
    ("anthropic", "claude-opus-4-10"),
    ("anthropic", "claude-opus-4-8-1"),
    ("anthropic", "claude-haiku-4-5-mini"),
    ("anthropic", "claude-sonnet-4-6-fast"),
    ("anthropic", "claude-sonnet-4-5[2m]"),
    ("anthropic", "[1m]"),
    ("deepseek", "deepseek-v4-flash-vision-exp"),
    ("deepseek", "deepseek-chat-lite"),
    ("azure", "o4-mini-ultra"),
    ("openai", "gpt-9"),
    ("openai", "gpt-4o-mega"),
    ("moonshotai", "kimi-k2.50"),
    ("mistral", "magistral-medium-mini"),
    # Another's list is not a host's price.
    ("groq", "gpt-4o"),
    ("together", "claude-opus-5"),
    ("perplexity", "openai/gpt-5.3-codex"),
    ("aws", "global.openai.gpt-5.4"),
    ("aws", "arn:aws:bedrock:us-east-1:1:provisioned-model/abc123"),
    ("litellm", "huggingface/meta-llama/Llama-3.1-8B-Instruct"),
    ("ollama", "deepseek-r1"),
    ("", "ollama/mistral:latest"),
    ("hosted_vllm", "mistralai/Mistral-Nemo-Instruct-2407"),
    ("lm_studio", "openai/gpt-oss-20b"),
    ("llama.cpp", "gpt-oss-120b"),
    ("", "sambanova/DeepSeek-V3.2"),
    ("litellm", "replicate/openai/gpt-oss-120b"),
    ("snowflake", "claude-4-opus"),
    ("snowflake.cortex", "claude-4-sonnet"),
    ("deepinfra", "anthropic/claude-3-7-sonnet-latest"),
    ("nebius", "deepseek-ai/DeepSeek-R1"),
    ("ibm.watsonx.ai", "mistralai/mistral-large"),
    ("dashscope", "deepseek-v4-pro"),
    ("huggingface", "deepseek-ai/DeepSeek-R1"),
    ("nvidia_nim", "deepseek-ai/deepseek-r1"),
    ("github", "gpt-4o"),
    # No names of models.
    ("", ""),
    ("openai", ""),
    ("openai", "/"),
    ("", "latest"),
    ("unknown", "my-deployment"),
]


@cache
def book() -> PriceBook:
    """The book that ships."""
    return PriceBook.load()


@cache
def rows() -> tuple[tuple[re.Pattern[str], PatternRow], ...]:
    """Its patterns, compiled."""
    return tuple((re.compile(row.regexp), row) for row in book().pattern_rows())


def resolved(provider: str, model: str) -> tuple[str, str]:
    """What Python makes of a name; two empty texts for nothing."""
    entry = book().resolve(model, provider)
    return (entry.provider, entry.model) if entry else ("", "")


def matched(provider: str, model: str) -> tuple[str, str]:
    """What a database makes of it: the first row whose expression matches."""
    text = f"{provider}/{model}".lower().strip()
    return next(((row.provider, row.model) for pattern, row in rows() if pattern.match(text)), ("", ""))


@pytest.mark.parametrize(("provider", "model", "entry_provider", "entry"), NAMES)
def test_names_mean_an_entry(provider: str, model: str, entry_provider: str, entry: str) -> None:
    """Dates, aliases, gateways, Bedrock, Vertex, Azure and fine-tunes lead to the entry that bills them."""
    assert resolved(provider, model) == (entry_provider, entry)


@pytest.mark.parametrize(("provider", "model"), UNPRICED)
def test_a_doubtful_name_means_nothing(provider: str, model: str) -> None:
    """No price is better than another model's price."""
    assert resolved(provider, model) == ("", "")


@pytest.mark.parametrize("provider", ["", "langchain", "litellm", "strands-agents", "pydantic-ai", "unknown"])
def test_a_framework_is_looked_past(provider: str) -> None:
    """Who sent the request does not hide who sells the model."""
    assert resolved(provider, "deepseek-chat") == ("deepseek", "deepseek-chat")


@pytest.mark.parametrize(
    ("provider", "model", "reason"),
    [
        ("sambanova", "DeepSeek-V3.2", "the prices of sambanova are not known: give them in a price file"),
        ("", "ollama/qwen3", "ollama has no list price: say in a price file what it costs you, or 0"),
        ("openai", "gpt-9", "no price for this model"),
        ("langchain", "mystery", "no price for this model"),
    ],
)
def test_a_host_without_prices_says_what_helps(provider: str, model: str, reason: str) -> None:
    """Unpriced because nobody knows the host's prices, which its customer does."""
    assert why_unpriced(provider, model) == reason


def test_a_derived_entry_says_whose_rates_it_has() -> None:
    """A fine-tune, a route and a data zone are estimates."""
    for provider, model in (
        ("openai", "ft:gpt-5:org::id"),
        ("openrouter", "openai/gpt-4o:nitro"),
        ("azure", "eu/gpt-4o"),
    ):
        entry = book().resolve(model, provider)
        assert entry is not None
        assert entry.caveat


def names() -> Iterator[tuple[str, str]]:
    """Everything a span might say that we know of."""
    yield from ((provider, model) for provider, model, _, _ in NAMES)
    yield from UNPRICED
    for line in lines("price_vectors/vectors.jsonl"):
        vector = json.loads(line)
        yield vector["provider"], vector["model"]
    for number, entry in enumerate(book().entries()):
        yield entry.provider, entry.model
        if number % 9 == 0:
            yield "", entry.model
            yield "openai", f"litellm_proxy/{entry.provider}/{entry.model}"
            yield "unknown", f"{entry.model}-20261231"
            yield "aws", f"us.{entry.model}"


def differing(spellings: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """The names on which Python and the patterns disagree."""
    return [(p, m) for p, m in spellings if resolved(p, m) != matched(p, m)]


def test_patterns_decide_as_python_does() -> None:
    """Every form above, and one in fifteen of all names: the first pattern that matches is the same entry."""
    told = [(provider, model) for provider, model, _, _ in NAMES]
    assert differing([*told, *UNPRICED, *sorted(set(names()))[::15]]) == []


@pytest.mark.slow
def test_patterns_decide_every_name_as_python_does() -> None:
    """Vectors, every entry under its own name, and gateways' forms of many."""
    assert differing(sorted(set(names()))) == []


def test_patterns_are_plain() -> None:
    """Nothing looks around or back, so RE2 and Vectorscan take every pattern; ids count from 1."""
    for number, (_, row) in enumerate(rows(), start=1):
        assert row.id == number
        assert not re.search(r"\(\?[=!<P]|\\[1-9]", row.regexp), row.regexp
        assert row.regexp.startswith("^")
        assert row.regexp.endswith("$")


def test_every_entry_is_found_under_its_own_name() -> None:
    """Provider and model of an entry lead back to it, so rates and patterns join.

    Azure and Google list models of others too; where they list one themselves, their own entry is found.
    """
    lost = {
        entry.provider
        for entry in book().entries()
        if not entry.caveat and resolved(entry.provider, entry.model) != (entry.provider, entry.model)
    }
    assert lost == {"azure", "google"}


@pytest.mark.parametrize(
    ("name", "provider"),
    [
        ("az.ai.inference", "azure"),
        ("azure_ai", "azure"),
        ("amazon-bedrock", "aws"),
        ("vertex_ai-anthropic_models", "google"),
        ("x.ai", "x-ai"),
        ("perplexity", "perplexity"),
        ("cohere_chat", "cohere"),
        ("langchain", None),
        ("litellm", None),
        ("strands-agents", None),
        ("langgraph", None),
        ("llama_index", None),
        ("pydantic-ai", None),
        ("vercel", None),
        ("gateway", None),
        ("litellm_proxy", None),
        ("unknown", None),
        ("custom_openai", None),
        ("", None),
        ("ollama_chat", "ollama"),
        ("sambanova.chat", "sambanova"),
        ("nvidia_nim", "nvidia"),
        ("ibm.watsonx.ai", "watsonx"),
        ("github_copilot", "github-copilot"),
        ("huggingface_together", "huggingface_together"),
    ],
)
def test_provider_names(name: str, provider: str | None) -> None:
    """Names of SDKs and gateways mean a provider; names of frameworks mean none."""
    assert canonical_provider(name) == provider


@pytest.mark.parametrize("provider", PROVIDERS)
def test_provider_names_as_patterns(provider: str) -> None:
    """Each name of a provider, with and without a suffix, is told alike by the expression."""
    for name in PROVIDERS[provider].split():
        assert re.fullmatch(provider_regexp(provider), name.removesuffix("*"))
        assert canonical_provider(name.removesuffix("*")) == provider
        if name.endswith("*"):
            assert re.fullmatch(provider_regexp(provider), name.removesuffix("*") + ".chat")
            assert canonical_provider(name.removesuffix("*") + ".chat") == provider


@pytest.mark.parametrize(
    ("provider", "address", "port", "found"),
    [
        ("openai", "api.deepinfra.com", "", "deepinfra"),
        ("OpenAI", "https://api.groq.com/openai/v1/", "", "groq"),
        ("", "api.x.ai", "443", "x-ai"),
        ("anthropic", "api.deepseek.com", "", "deepseek"),
        ("openai", "api.anthropic.com", "", "anthropic"),
        ("chatopenai", "http://10.0.0.7:11434/v1", "", "ollama"),
        ("openai", "127.0.0.1", "1234", "lmstudio"),
        ("openai", "vllm-qwen.ml.svc", "8000", "vllm"),
        # The span's name of the same provider, of one whose own client was used, and of a host stay.
        ("openai.chat", "api.openai.com", "", "openai.chat"),
        ("gcp.vertex_ai", "us-east5-aiplatform.googleapis.com", "", "gcp.vertex_ai"),
        ("azure.ai.openai", "api.openai.com", "", "azure.ai.openai"),
        # Who stands behind these is not known.
        ("openai", "litellm.internal", "4000", "openai"),
        ("openai", "my.azure-api.net", "", "openai"),
        ("openai", "gateway.ai.cloudflare.com", "", "openai"),
        ("openai", "localhost", "8000", "openai"),
        ("openai", "api.groq.com.evil.example", "", "openai"),
        ("openai", "xapi.groq.com", "", "openai"),
        ("openai", "", "", "openai"),
    ],
)
def test_the_host_called_says_who_bills(provider: str, address: str, port: str, found: str) -> None:
    """The client's maker is not taken for whoever answers; a host that nobody knows leaves what is named."""
    assert biller(provider, address, port) == found


@pytest.mark.parametrize(
    ("address", "found"),
    [
        ("eu.api.openai.com", True),
        ("https://US.api.openai.com/v1", True),
        ("us-east5-aiplatform.googleapis.com", True),
        ("aiplatform.eu.rep.googleapis.com:443", True),
        ("api.openai.com", False),
        ("aiplatform.googleapis.com", False),
        ("eu.api.openai.com.evil.example", False),
        ("", False),
    ],
)
def test_a_host_keeps_inference_to_a_region(address: str, found: bool) -> None:
    """Global hosts do not."""
    assert is_regional(address) is found


@pytest.mark.parametrize(
    ("host", "path", "found"),
    [
        ("gateway.ai.cloudflare.com", "/v1/account/gateway/workers-ai/v1/chat/completions", "cloudflare"),
        ("gateway.ai.cloudflare.com", "/v1/account/gateway/openai/chat/completions", None),
        ("router.huggingface.co", "/groq/openai/v1/chat/completions", "huggingface_groq"),
        ("router.huggingface.co", "/v1/chat/completions", "huggingface"),
        ("acme.snowflakecomputing.com", "/api/v2/statements", None),
        ("localhost:11434", "/v1/chat/completions", "ollama"),
        ("localhost:8080", "/v1/chat/completions", None),
    ],
)
def test_a_request_says_who_bills(host: str, path: str, found: str | None) -> None:
    """Paths tell what is no model call, and whose list holds behind a gateway."""
    assert endpoint_provider(host, path) == found


def test_hosts_belong_to_providers_that_are_known() -> None:
    """A name that no rule knows would be looked past, and its calls priced by the maker's list."""
    assert [name for name in {*ENDPOINTS, *ADDRESSES} if canonical_provider(name) is None] == []
