-- endpoints_dictionary: whose API the server of a model call is, by its host in lower case and perhaps its port.
-- The same as ADDRESSES in otel_cost/providers.py.
-- Grain:     one entry per provider, the hosts of none are those of another
-- Source:    the list below
-- Read by:   views/read_spans.sql
CREATE OR REPLACE DICTIONARY endpoints_dictionary
(
    regexp    String,
    provider  String DEFAULT ''
)
PRIMARY KEY regexp
SOURCE(CLICKHOUSE(QUERY $query$
WITH
    [
        ('aihubmix', '(api\\.)?aihubmix\\.com'),
        ('alibaba', 'dashscope(-[a-z]+)?\\.aliyuncs\\.com'),
        ('anthropic', 'api\\.anthropic\\.com'),
        ('anyscale', 'api\\.endpoints\\.anyscale\\.com'),
        ('arcee', 'api\\.arcee\\.ai'),
        ('avian', 'api\\.avian\\.io'),
        ('aws', 'bedrock-(runtime(-fips)?|mantle)\\.[a-z0-9-]+\\.(amazonaws\\.com(\\.cn)?|api\\.aws)'),
        ('azure', '[^/]*\\.(openai|cognitiveservices|(services|inference)\\.ai)\\.azure\\.com'),
        ('baidu', 'qianfan\\.baidubce\\.com'),
        ('baseten', 'inference\\.baseten\\.co'),
        ('cerebras', 'api\\.cerebras\\.ai'),
        ('chutes', 'llm\\.chutes\\.ai'),
        ('clarifai', 'api\\.clarifai\\.com'),
        ('cloudflare', 'api\\.cloudflare\\.com'),
        ('cohere', 'api\\.cohere\\.(ai|com)'),
        ('crusoe', '(managed-inference-api-proxy|api\\.inference)\\.crusoecloud\\.com'),
        ('databricks', '[^/]*\\.((cloud|gcp)\\.databricks\\.com|azuredatabricks\\.net)'),
        ('deepinfra', 'api\\.deepinfra\\.com'),
        ('deepseek', 'api\\.deepseek\\.com'),
        ('doubleword', 'api\\.doubleword\\.ai'),
        ('featherless', 'api\\.featherless\\.ai'),
        ('fireworks', 'api\\.fireworks\\.ai'),
        ('friendli', 'api\\.friendli\\.ai'),
        ('github', 'models\\.github\\.ai'),
        ('github-copilot', 'api\\.([a-z]+\\.)?githubcopilot\\.com'),
        ('google', 'generativelanguage\\.googleapis\\.com|(([^/]*-)?aiplatform|aiplatform\\.[a-z]+\\.rep)\\.googleapis\\.com'),
        ('groq', 'api\\.groq\\.com'),
        ('heroku', '[a-z]+\\.inference\\.heroku\\.com'),
        ('huggingface', '(router|api-inference)\\.huggingface\\.co|[^/]*\\.endpoints\\.huggingface\\.cloud'),
        ('hyperbolic', 'api\\.hyperbolic\\.xyz'),
        ('lambda_ai', 'api\\.(lambda\\.ai|lambdalabs\\.com)'),
        ('llamafile', 'llamafile([-.][^/:]*)?'),
        ('lmstudio', '(localhost|127\\.0\\.0\\.1|host\\.docker\\.internal):1234'),
        ('meta', 'api\\.(meta\\.ai|llama\\.com)'),
        ('minimax', 'api\\.minimaxi?\\.(com|io|chat)'),
        ('mistral', '(api|codestral)\\.mistral\\.ai'),
        ('moonshotai', 'api\\.moonshot\\.(ai|cn)'),
        ('nebius', 'api\\.(studio|tokenfactory)\\.nebius\\.(ai|com)'),
        ('novita', 'api\\.novita\\.ai'),
        ('nscale', 'inference\\.api\\.nscale\\.com'),
        ('nvidia', 'integrate\\.api\\.nvidia\\.com'),
        ('ollama', 'ollama([-.][^/:]*)?|[^/]*:11434'),
        ('openai', '([a-z]+\\.)?api\\.openai\\.com'),
        ('openrouter', '((api|eu|us)\\.)?openrouter\\.ai'),
        ('oracle', 'inference\\.generativeai\\.[a-z0-9-]+\\.oci\\.oraclecloud\\.com'),
        ('ovhcloud', 'oai\\.endpoints\\.kepler\\.ai\\.cloud\\.ovh\\.net'),
        ('parasail', 'api\\.parasail\\.io'),
        ('perplexity', 'api\\.perplexity\\.ai'),
        ('replicate', 'openai-proxy\\.replicate\\.com'),
        ('sagemaker', 'runtime\\.sagemaker\\.[a-z0-9-]+\\.amazonaws\\.com'),
        ('sambanova', 'api\\.sambanova\\.ai'),
        ('scaleway', 'api\\.scaleway\\.ai'),
        ('sglang', 'sglang([-.][^/:]*)?'),
        ('siliconflow', 'api\\.siliconflow\\.(cn|com)'),
        ('snowflake', '[^/]*\\.snowflakecomputing\\.com'),
        ('tencent', 'api\\.hunyuan\\.cloud\\.tencent\\.com'),
        ('together', 'api\\.together\\.(xyz|ai)'),
        ('vllm', 'vllm([-.][^/:]*)?'),
        ('volcengine', 'ark\\.[a-z0-9-]+\\.(volces|bytepluses)\\.com'),
        ('voyageai', 'api\\.voyageai\\.com'),
        ('wandb', 'api\\.inference\\.wandb\\.ai'),
        ('watsonx', '[a-z0-9-]+\\.ml\\.cloud\\.ibm\\.com'),
        ('x-ai', '([a-z0-9-]+\\.)?api\\.x\\.ai'),
        ('zai', 'api\\.z\\.ai'),
        ('zhipuai', 'open\\.bigmodel\\.cn')
    ] AS endpoints
SELECT
    number::UInt64 AS id,
    0::UInt64 AS parent_id,
    concat('^(?:', endpoint.2, ')(?::[0-9]+)?$') AS regexp,
    ['provider'] AS keys,
    [endpoint.1] AS values
FROM
(
    SELECT
        arrayJoin(arrayEnumerate(endpoints)) AS number,
        endpoints[number] AS endpoint
)
$query$))
LAYOUT(REGEXP_TREE())
LIFETIME(0);
