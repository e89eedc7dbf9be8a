"""Which provider a name means: the names that instrumentations, SDKs and gateways use for each of them."""

from __future__ import annotations

import re

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
    "anthropic": r"api\.anthropic\.com",
    "aws": r"bedrock-runtime(-fips)?\.[a-z0-9-]+\.(amazonaws\.com(\.cn)?|api\.aws)",
    "azure": r"([^/]*\.)?(openai\.azure\.com|azure-api\.net|cognitiveservices\.azure\.com"
    r"|(services|inference)\.ai\.azure\.com)",
    "avian": r"api\.avian\.io",
    "baseten": r"inference\.baseten\.co",
    "cerebras": r"api\.cerebras\.ai",
    "cloudflare": r"api\.cloudflare\.com/client/v4/accounts/[^/]+/ai|gateway\.ai\.cloudflare\.com",
    "cohere": r"api\.cohere\.(ai|com)",
    "databricks": r"[^/]*\.((cloud|gcp)\.databricks\.com|azuredatabricks\.net)/serving-endpoints",
    "deepseek": r"api\.deepseek\.com",
    "doubleword": r"api\.doubleword\.ai",
    "fireworks": r"api\.fireworks\.ai",
    "github-copilot": r"api\.githubcopilot\.com",
    "google": r"generativelanguage\.googleapis\.com|([^/]*-)?aiplatform\.googleapis\.com",
    "groq": r"api\.groq\.com",
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
    "minimax": r"api\.minimaxi?\.(com|io|chat)",
    "mistral": r"(api|codestral)\.mistral\.ai",
    "moonshotai": r"api\.moonshot\.(ai|cn)",
    "novita": r"api\.novita\.ai",
    "openai": r"([a-z]+\.)?api\.openai\.com",
    "openrouter": r"(api\.)?openrouter\.ai",
    "ovhcloud": r"oai\.endpoints\.kepler\.ai\.cloud\.ovh\.net",
    "perplexity": r"api\.perplexity\.ai",
    "together": r"api\.together\.(xyz|ai)",
    "voyageai": r"api\.voyageai\.com",
    "x-ai": r"([a-z0-9-]+\.)?api\.x\.ai",
    "zai": r"api\.z\.ai",
    "zhipuai": r"open\.bigmodel\.cn",
}
"""Where requests to each provider go: a regular expression for the beginning of host and path.

From the providers' API references, and genai-prices 0.2.3 (field `api_pattern`), 2026-11.
"""

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


_ENDPOINT = re.compile(
    "|".join(f"(?P<p{number}>{pattern})(?=[:/]|$)" for number, pattern in enumerate(ENDPOINTS.values()))
)
_ENDPOINT_PROVIDERS = tuple(ENDPOINTS)


def endpoint_provider(host: str, path: str = "") -> str | None:
    """Return the provider whose API a host in lower case and path belong to, or None where none is known."""
    found = _ENDPOINT.match(host + path)
    return _ENDPOINT_PROVIDERS[int(str(found.lastgroup)[1:])] if found else None
