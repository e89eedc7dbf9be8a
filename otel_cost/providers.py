"""Which provider a name means: the names that instrumentations, SDKs and gateways use for each of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

UNLISTED: dict[str, str] = {
    "aihubmix": "aihubmix",
    "alibaba": "alibaba* alibabacloud* aliyun* bailian dashscope* chattongyi tongyi qwencloud "
    "qwen_ai_platform",
    "anyscale": "anyscale* chatanyscale",
    "baidu": "baidu* qianfan* wenxin",
    "chutes": "chutes*",
    "clarifai": "clarifai*",
    "coralbricks": "coralbricks",
    "crusoe": "crusoe*",
    "darkbloom": "darkbloom",
    "deepinfra": "deepinfra* deep_infra chatdeepinfra",
    "featherless": "featherless* featherless-ai featherless_ai",
    "friendli": "friendli* friendliai*",
    "github": "github github_models github-models",
    "gmi": "gmi gmi_cloud gmicloud",
    "heroku": "heroku*",
    "huggingface": "huggingface hugging_face huggingfacehub huggingface_hub huggingface_endpoint "
    "chathuggingface",
    "hyperbolic": "hyperbolic*",
    "inferenceapis": "inferenceapis",
    "lambda": "lambda_ai lambda-ai lambda.ai lambdaai lambdalabs",
    "lepton": "lepton* leptonai*",
    "libertai": "libertai",
    "nebius": "nebius*",
    "nscale": "nscale*",
    "nvidia": "nvidia* chatnvidia",
    "openinfer": "openinfer",
    "oracle": "oci* oracle*",
    "parasail": "parasail*",
    "pinstripes": "pinstripes",
    "predibase": "predibase*",
    "replicate": "replicate*",
    "sagemaker": "sagemaker*",
    "sambanova": "sambanova* sambanovacloud* sambastudio chatsambanova chatsambanovacloud",
    "scaleway": "scaleway*",
    "scx-ai": "scx-ai scx_ai",
    "siliconflow": "siliconflow* siliconcloud",
    "snowflake": "snowflake* snowflakecortex chatsnowflakecortex",
    "tencent": "tencent* hunyuan",
    "tensormesh": "tensormesh",
    "volcengine": "volcengine* volcano byteplus*",
    "wandb": "wandb",
    "watsonx": "watsonx* ibm ibm.watsonx ibm.watsonx.ai chatwatsonx",
}
"""Hosts of others' models whose own prices are not in the catalogue, as LiteLLM, LangChain, pydantic-ai and
the semantic conventions name them."""

SELF_HOSTED: dict[str, str] = {
    "docker_model_runner": "docker_model_runner",
    "gpt4all": "gpt4all",
    "koboldcpp": "koboldcpp",
    "llama.cpp": "llama.cpp llama-cpp llama_cpp llamacpp chatllamacpp llama-cpp-python",
    "llamafile": "llamafile",
    "lmstudio": "lmstudio* lm_studio lm-studio",
    "localai": "localai",
    "mlx": "mlx mlx_lm mlx-lm chatmlx",
    "ollama": "ollama* chatollama ollama_chat",
    "oobabooga": "oobabooga",
    "sglang": "sglang*",
    "tgi": "tgi text-generation-inference text_generation_inference",
    "triton": "triton*",
    "vllm": "vllm* hosted_vllm chatvllm vllmopenai",
    "xinference": "xinference*",
}
"""Servers of models that people run themselves: what a token costs there, only they know."""

HOSTS: dict[str, str] = {
    "openrouter": "openrouter* open-router open_router",
    "azure": "azure* az* azureopenai azureai azurechatopenai azureaiinference",
    "aws": "aws* bedrock* amazon* amazonbedrock awsbedrock chatbedrock chatbedrockconverse",
    "github-copilot": "github-copilot github_copilot copilot",
    "huggingface_cerebras": "huggingface_cerebras",
    "huggingface_fireworks-ai": "huggingface_fireworks-ai huggingface_fireworks",
    "huggingface_groq": "huggingface_groq",
    "huggingface_hyperbolic": "huggingface_hyperbolic",
    "huggingface_nebius": "huggingface_nebius",
    "huggingface_novita": "huggingface_novita",
    "huggingface_nscale": "huggingface_nscale",
    "huggingface_ovhcloud": "huggingface_ovhcloud",
    "huggingface_publicai": "huggingface_publicai",
    "huggingface_sambanova": "huggingface_sambanova",
    "huggingface_together": "huggingface_together",
    "perplexity": "perplexity* chatperplexity",
    "groq": "groq* chatgroq",
    "cerebras": "cerebras* chatcerebras",
    "together": "together* togetherai togethercomputer",
    "fireworks": "fireworks* fireworksai",
    "novita": "novita* novitaai",
    "baseten": "baseten*",
    "cloudflare": "cloudflare* workers-ai workers_ai",
    "databricks": "databricks",
    "modal": "modal",
    "doubleword": "doubleword",
    "ovhcloud": "ovhcloud* ovh*",
    "avian": "avian*",
    "arcee": "arcee* arceeai",
    "cursor": "cursor",
    "quicksilverpro": "quicksilverpro quicksilver",
    "typesafe": "typesafe",
    "openai-decisions": "openai-decisions",
    **UNLISTED,
    **SELF_HOSTED,
}
"""Providers that host models, of others mostly: what they do not list is not priced by its maker's list.

Names are separated by blanks; a star stands for any suffix after a dot, dash or underscore (`openai.chat`).
"""

VENDORS: dict[str, str] = {
    "anthropic": "anthropic* chatanthropic com.anthropic.sdk.python claude",
    "openai": "openai* chatopenai",
    "google": "google* gcp* vertex* vertexai* gemini* googleai googlegenai "
    "chatgooglegenerativeai chatvertexai",
    "mistral": "mistral* mistralai* chatmistralai",
    "cohere": "cohere* chatcohere",
    "deepseek": "deepseek* deep_seek chatdeepseek",
    "x-ai": "x-ai x_ai x.ai xai* chatxai grok",
    "moonshotai": "moonshot* moonshotai* kimi",
    "minimax": "minimax* minimaxi",
    "zhipuai": "zhipu* zhipuai* bigmodel",
    "zai": "zai* z-ai z.ai z_ai",
    "voyageai": "voyage* voyageai*",
    "meta": "meta",
    "elevenlabs": "elevenlabs eleven_labs",
}
"""Providers that make the models they sell, a model alone is looked for in this order."""

TOLD_BY_MODEL = (*VENDORS, "perplexity")
"""Where a model without a provider is looked for: what only the maker sells under that name."""

PROVIDERS = {**HOSTS, **VENDORS}

PASS_THROUGH = ("openrouter",)
"""Hosts that bill a model at the price of its maker, so an unlisted one is looked up there
(https://openrouter.ai/docs/faq)."""

ENDPOINTS: dict[str, str] = {
    "aihubmix": r"(api\.)?aihubmix\.com",
    "alibaba": r"dashscope(-[a-z]+)?\.aliyuncs\.com",
    "anthropic": r"api\.anthropic\.com",
    "anyscale": r"api\.endpoints\.anyscale\.com",
    "arcee": r"api\.arcee\.ai",
    "avian": r"api\.avian\.io",
    "aws": r"bedrock-(runtime(-fips)?|mantle)\.[a-z0-9-]+\.(amazonaws\.com(\.cn)?|api\.aws)",
    "azure": r"([^/]*\.)?(openai\.azure\.com|azure-api\.net|cognitiveservices\.azure\.com"
    r"|(services|inference)\.ai\.azure\.com)",
    "baidu": r"qianfan\.baidubce\.com",
    "baseten": r"inference\.baseten\.co",
    "cerebras": r"api\.cerebras\.ai",
    "chutes": r"llm\.chutes\.ai",
    "clarifai": r"api\.clarifai\.com",
    "cloudflare": r"api\.cloudflare\.com/client/v4/accounts/[^/]+/ai"
    r"|gateway\.ai\.cloudflare\.com/v1/[^/]+/[^/]+/workers-ai",
    "cohere": r"api\.cohere\.(ai|com)",
    "crusoe": r"(managed-inference-api-proxy|api\.inference)\.crusoecloud\.com",
    "databricks": r"[^/]*\.((cloud|gcp)\.databricks\.com|azuredatabricks\.net)"
    r"/(serving-endpoints|ai-gateway)",
    "deepinfra": r"api\.deepinfra\.com",
    "deepseek": r"api\.deepseek\.com",
    "doubleword": r"api\.doubleword\.ai",
    "featherless": r"api\.featherless\.ai",
    "fireworks": r"api\.fireworks\.ai",
    "friendli": r"api\.friendli\.ai",
    "github": r"models\.github\.ai",
    "github-copilot": r"api\.([a-z]+\.)?githubcopilot\.com",
    "google": r"generativelanguage\.googleapis\.com"
    r"|(([^/]*-)?aiplatform|aiplatform\.[a-z]+\.rep)\.googleapis\.com",
    "groq": r"api\.groq\.com",
    "heroku": r"[a-z]+\.inference\.heroku\.com",
    "huggingface_cerebras": r"router\.huggingface\.co/cerebras",
    "huggingface_fireworks-ai": r"router\.huggingface\.co/fireworks-ai",
    "huggingface_groq": r"router\.huggingface\.co/groq",
    "huggingface_hyperbolic": r"router\.huggingface\.co/hyperbolic",
    "huggingface_nebius": r"router\.huggingface\.co/nebius",
    "huggingface_novita": r"router\.huggingface\.co/novita",
    "huggingface_nscale": r"router\.huggingface\.co/nscale",
    "huggingface_ovhcloud": r"router\.huggingface\.co/ovhcloud",
    "huggingface_publicai": r"router\.huggingface\.co/publicai",
    "huggingface_sambanova": r"router\.huggingface\.co/sambanova",
    "huggingface_together": r"router\.huggingface\.co/together",
    "huggingface": r"(router|api-inference)\.huggingface\.co|[^/]*\.endpoints\.huggingface\.cloud",
    "hyperbolic": r"api\.hyperbolic\.xyz",
    "lambda_ai": r"api\.(lambda\.ai|lambdalabs\.com)",
    "llamafile": r"llamafile([-.][^/:]*)?",
    "lmstudio": r"(localhost|127\.0\.0\.1|host\.docker\.internal):1234",
    "meta": r"api\.(meta\.ai|llama\.com)",
    "minimax": r"api\.minimaxi?\.(com|io|chat)",
    "mistral": r"(api|codestral)\.mistral\.ai",
    "moonshotai": r"api\.moonshot\.(ai|cn)",
    "nebius": r"api\.(studio|tokenfactory)\.nebius\.(ai|com)",
    "novita": r"api\.novita\.ai",
    "nscale": r"inference\.api\.nscale\.com",
    "nvidia": r"integrate\.api\.nvidia\.com",
    "ollama": r"ollama([-.][^/:]*)?|[^/]*:11434",
    "openai": r"([a-z]+\.)?api\.openai\.com",
    "openrouter": r"((api|eu|us)\.)?openrouter\.ai",
    "oracle": r"inference\.generativeai\.[a-z0-9-]+\.oci\.oraclecloud\.com",
    "ovhcloud": r"oai\.endpoints\.kepler\.ai\.cloud\.ovh\.net",
    "parasail": r"api\.parasail\.io",
    "perplexity": r"api\.perplexity\.ai",
    "replicate": r"openai-proxy\.replicate\.com",
    "sagemaker": r"runtime\.sagemaker\.[a-z0-9-]+\.amazonaws\.com",
    "sambanova": r"api\.sambanova\.ai",
    "scaleway": r"api\.scaleway\.ai",
    "sglang": r"sglang([-.][^/:]*)?",
    "siliconflow": r"api\.siliconflow\.(cn|com)",
    "snowflake": r"[^/]*\.snowflakecomputing\.com/api/v2/cortex",
    "tencent": r"api\.hunyuan\.cloud\.tencent\.com",
    "together": r"api\.together\.(xyz|ai)",
    "vllm": r"vllm([-.][^/:]*)?",
    "volcengine": r"ark\.[a-z0-9-]+\.(volces|bytepluses)\.com",
    "voyageai": r"api\.voyageai\.com",
    "wandb": r"api\.inference\.wandb\.ai",
    "watsonx": r"[a-z0-9-]+\.ml\.cloud\.ibm\.com",
    "x-ai": r"([a-z0-9-]+\.)?api\.x\.ai",
    "zai": r"api\.z\.ai",
    "zhipuai": r"open\.bigmodel\.cn",
}
"""Where requests to each provider go: a regular expression for the beginning of host, port and path.

From the providers' API references; genai-prices 0.2.3 (field `api_pattern`), LiteLLM
(https://github.com/BerriAI/litellm/blob/main/litellm/constants.py) and pydantic-ai 2.68 (`providers/`),
2026-11. Servers of one's own are known by their default port where hardly anything else has it
(https://docs.ollama.com/faq, https://lmstudio.ai/docs/developer/core/server), else by the name of the host.
"""

ADDRESSES: dict[str, str] = {
    **{
        provider: pattern
        for provider, pattern in ENDPOINTS.items()
        if not provider.startswith("huggingface_")
    },
    "azure": r"[^/]*\.(openai|cognitiveservices|(services|inference)\.ai)\.azure\.com",
    "cloudflare": r"api\.cloudflare\.com",
    "databricks": r"[^/]*\.((cloud|gcp)\.databricks\.com|azuredatabricks\.net)",
    "snowflake": r"[^/]*\.snowflakecomputing\.com",
}
"""As `ENDPOINTS` for the host and port of a span, which tells no path but is a model call's.

Gateways (`gateway.ai.cloudflare.com`, `azure-api.net`, a company's own) are missing: who bills stands behind.
views/endpoints_dictionary.sql has the same.
"""

_CLIENTS = ("openai", "anthropic")
"""Providers whose clients are used to call others, by another base URL."""

_SEPARATORS = re.compile(r"[._-]")


def _names() -> tuple[dict[str, str], dict[str, str]]:
    whole: dict[str, str] = {}
    families: dict[str, str] = {}
    for provider, names in PROVIDERS.items():
        for name in names.split():
            stem = name.removesuffix("*")
            whole.setdefault(stem, provider)
            if stem != name:
                families.setdefault(stem, provider)
    return whole, families


_WHOLE, _FAMILIES = _names()


def canonical_provider(name: str) -> str | None:
    """Return the provider that a name in lower case means, or None where the name is not a provider's.

    Frameworks and plain gateways (`langchain`, `litellm`, `strands-agents`, `unknown`) are no providers: they
    say who sent the request, not who bills for it.
    """
    return _WHOLE.get(name) or _FAMILIES.get(_SEPARATORS.split(name, maxsplit=1)[0])


def provider_regexp(provider: str) -> str:
    """Return a regular expression for every name of a provider, in lower case; RE2 syntax, not anchored."""
    names = PROVIDERS[provider].split() if provider in PROVIDERS else [provider]
    return "(?:" + "|".join(map(_name_regexp, names)) + ")"


def _name_regexp(name: str) -> str:
    stem = re.escape(name.removesuffix("*")).replace("\\-", "-")
    return rf"{stem}(?:[._-][^/]*)?" if name.endswith("*") else stem


_ADDRESS = re.compile(r"(?:[a-z]+://)?(?:[^/?#@]*@)?([^/:?#@]{1,253})(?::([0-9]{1,5})(?:[/?#]|$))?")
_CLIENT_NAMES = {provider: re.compile(provider_regexp(provider)) for provider in _CLIENTS}


def _matcher(patterns: Mapping[str, str], end: str) -> re.Pattern[str]:
    return re.compile("|".join(f"(?P<p{n}>{pattern}){end}" for n, pattern in enumerate(patterns.values())))


_ENDPOINT = _matcher(ENDPOINTS, "(?=[:/]|$)")
_HOST = _matcher(ADDRESSES, r"(?::[0-9]+)?\Z")
_ENDPOINT_PROVIDERS, _HOST_PROVIDERS = tuple(ENDPOINTS), tuple(ADDRESSES)


def endpoint_provider(host: str, path: str = "") -> str | None:
    """Return the provider whose API a host (with its port) in lower case and a path belong to, or None."""
    found = _ENDPOINT.match(host + path)
    return _ENDPOINT_PROVIDERS[int(str(found.lastgroup)[1:])] if found else None


_REGIONAL = re.compile(
    r"[a-z]{2}\.api\.openai\.com"
    r"|([a-z0-9-]+-aiplatform|aiplatform\.[a-z]+\.rep)\.googleapis\.com"
)


@lru_cache(maxsize=1024)
def is_regional(address: str) -> bool:
    """Tell whether a host, or a base URL's, keeps inference to a region or country, which may cost more.

    https://developers.openai.com/api/docs/guides/data-residency,
    https://docs.cloud.google.com/gemini-enterprise-agent-platform/resources/locations (2026-11). Bedrock's
    model ids tell it by themselves.
    """
    found = _ADDRESS.match(address.lower())
    return bool(found and _REGIONAL.fullmatch(found[1]))


@lru_cache(maxsize=1024)
def biller(provider: str, address: str, port: str = "") -> str:
    """Return the provider of a call whose span names one and the server that was called.

    Instrumentations of the clients of OpenAI and Anthropic name these, whoever answers. A host that is known
    says better who bills; one that nobody knows (a company's gateway, a relay) leaves what the span says.

    Args:
        provider: As the span names it; empty where it does not.
        address: The host, or the base URL.
    """
    found = _ADDRESS.match(address.lower())
    if not found:
        return provider
    port = found[2] or port
    host = _HOST.match(f"{found[1]}:{port}" if port else found[1])
    owner = _HOST_PROVIDERS[int(str(host.lastgroup)[1:])] if host else ""
    clients = [name for name, names in _CLIENT_NAMES.items() if names.fullmatch(provider.lower())]
    return owner if owner and (clients or not provider) and owner not in clients else provider
