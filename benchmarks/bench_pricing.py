"""Pricing one call: otel-cost warm and cold, genai-prices, LiteLLM and tokencost, side by side in one run.

Usage: python benchmarks/bench_pricing.py

The others pin old versions of shared libraries, so they live in an environment of their own,
.cache/bench-venv, made on the first run (needs `uv`). Results are written to benchmarks/results/pricing.md.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".cache" / "bench-venv"
RESULTS = ROOT / "benchmarks" / "results" / "pricing.md"
PACKAGES = ("genai-prices==0.2.3", "litellm", "tokencost", "pyperf")

# provider and model as spans name them, then the names LiteLLM and tokencost use for the same thing.
NAMES = [
    ("openai", "gpt-4o-2024-08-06", "gpt-4o-2024-08-06"),
    ("openai", "gpt-5.2-20251211", "gpt-5.2-20251211"),
    ("openai", "o3-mini", "o3-mini"),
    ("openai", "gpt-4.1-nano", "gpt-4.1-nano"),
    ("openai", "text-embedding-3-small", "text-embedding-3-small"),
    ("openai", "ft:gpt-4o-mini-2024-07-18:org::id", "ft:gpt-4o-mini-2024-07-18:org::id"),
    ("anthropic", "claude-sonnet-4-5-20250929", "claude-sonnet-4-5-20250929"),
    ("anthropic", "claude-3-7-sonnet-latest", "claude-3-7-sonnet-latest"),
    ("anthropic", "claude-3-opus-20240229", "claude-3-opus-20240229"),
    ("aws", "us.anthropic.claude-sonnet-4-5-20250929-v1:0", "us.anthropic.claude-sonnet-4-5-20250929-v1:0"),
    ("aws", "amazon.nova-lite-v1:0", "amazon.nova-lite-v1:0"),
    ("aws", "meta.llama3-70b-instruct-v1:0", "meta.llama3-70b-instruct-v1:0"),
    ("azure", "gpt-4o", "azure/gpt-4o"),
    ("azure", "gpt-5-mini-2025-08-07", "azure/gpt-5-mini-2025-08-07"),
    ("google", "gemini-2.5-pro", "gemini/gemini-2.5-pro"),
    ("google", "gemini-3-pro-preview", "gemini/gemini-3-pro-preview"),
    ("openrouter", "anthropic/claude-4.5-sonnet-20250929", "openrouter/anthropic/claude-4.5-sonnet-20250929"),
    ("mistral", "mistral-large-latest", "mistral/mistral-large-latest"),
    ("deepseek", "deepseek-chat", "deepseek/deepseek-chat"),
    ("openai", "model-that-nobody-sells", "model-that-nobody-sells"),
]
INPUT, CACHED, OUTPUT = 1000, 600, 200
RATIO_TO = "otel-cost warm"
ROUNDS = 3


def ours() -> Callable[[int], Decimal | None]:
    """otel-cost, compiled prices kept."""
    from otel_cost.errors import UnknownModelError
    from otel_cost.pricing import PriceBook
    from otel_cost.usage import Usage

    book = PriceBook.load()
    usage = Usage(input_tokens=INPUT - CACHED, cache_read_tokens=CACHED, output_tokens=OUTPUT)
    at = 1_795_000_000 * 10**9

    def price(number: int) -> Decimal | None:
        try:
            charge = book.price(usage, model=NAMES[number][1], provider=NAMES[number][0], at=at)
        except UnknownModelError:
            return None
        return charge.cost_picousd

    return price


def ours_cold() -> Callable[[int], Decimal | None]:
    """otel-cost, every compiled price forgotten before each call."""
    from otel_cost import rates
    from otel_cost.errors import UnknownModelError
    from otel_cost.pricing import PriceBook
    from otel_cost.usage import Usage

    book = PriceBook.load()
    usage = Usage(input_tokens=INPUT - CACHED, cache_read_tokens=CACHED, output_tokens=OUTPUT)
    at = 1_795_000_000 * 10**9

    def price(number: int) -> Decimal | None:
        book._schedules.clear()
        rates.parse_rates.cache_clear()
        try:
            return book.price(usage, model=NAMES[number][1], provider=NAMES[number][0], at=at).cost_picousd
        except UnknownModelError:
            return None

    return price


def genai() -> Callable[[int], Decimal | None]:
    """genai-prices."""
    from datetime import datetime, timezone

    from genai_prices import Usage, calc_price

    usage = Usage(input_tokens=INPUT, cache_read_tokens=CACHED, output_tokens=OUTPUT)
    at = datetime.fromtimestamp(1_795_000_000, tz=timezone.utc)

    def price(number: int) -> Decimal | None:
        provider, model, _ = NAMES[number]
        try:
            return calc_price(usage, model, provider_id=provider, genai_request_timestamp=at).total_price
        except LookupError:
            return None

    return price


def litellm() -> Callable[[int], float | None]:
    """LiteLLM's cost_per_token, which completion_cost calls."""
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    import litellm as library

    library.suppress_debug_info = True
    cost_per_token = library.cost_per_token

    def price(number: int) -> float | None:
        try:
            parts = cost_per_token(
                model=NAMES[number][2],
                prompt_tokens=INPUT,
                completion_tokens=OUTPUT,
                cache_read_input_tokens=CACHED,
            )
        except Exception:
            return None
        return sum(parts)

    return price


def litellm_completion() -> Callable[[int], float | None]:
    """LiteLLM's completion_cost, on a response."""
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    import litellm as library

    library.suppress_debug_info = True
    completion_cost = library.completion_cost
    usage = {
        "prompt_tokens": INPUT,
        "completion_tokens": OUTPUT,
        "total_tokens": INPUT + OUTPUT,
        "prompt_tokens_details": {"cached_tokens": CACHED},
    }
    responses = [library.ModelResponse(model=name, usage=usage) for _, _, name in NAMES]

    def price(number: int) -> float | None:
        try:
            return completion_cost(completion_response=responses[number], model=NAMES[number][2])
        except Exception:
            return None

    return price


def tokencost() -> Callable[[int], Decimal | None]:
    """tokencost's calculate_cost_by_tokens, input and output."""
    from tokencost import calculate_cost_by_tokens

    def price(number: int) -> Decimal | None:
        name = NAMES[number][2]
        try:
            return calculate_cost_by_tokens(INPUT, name, "input") + calculate_cost_by_tokens(
                OUTPUT, name, "output"
            )
        except KeyError:
            return None

    return price


RIVALS: dict[str, Callable[[], Callable[[int], object]]] = {
    "otel-cost warm": ours,
    "otel-cost cold": ours_cold,
    "genai-prices": genai,
    "LiteLLM cost_per_token": litellm,
    "LiteLLM completion_cost": litellm_completion,
    "tokencost": tokencost,
}


def measure(rival: str) -> dict[str, object]:
    """Return what importing a rival costs and what it makes of the names; run in a process of its own."""
    import resource

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    price = RIVALS[rival]()
    amounts = [price(number) for number in range(len(NAMES))]
    return {
        "ready_s": time.perf_counter() - began,
        "memory_mb": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024,
        "resolved": sum(amount is not None for amount in amounts[:-1]),
        "zero": sum(amount is not None and float(amount) == 0 for amount in amounts),
    }


def perf(rival: str) -> None:
    """Time one rival with pyperf: a value is the mean over all names."""
    import pyperf

    def add_rival(command: list[str], _: object) -> None:
        command.extend(("--rival", rival))

    runner = pyperf.Runner(processes=1, values=7, warmups=2, add_cmdline_args=add_rival)
    runner.argparser.add_argument("--rival")
    runner.bench_func(rival, _loop(RIVALS[rival]), inner_loops=len(NAMES))


def _loop(make: Callable[[], Callable[[int], object]]) -> Callable[[], None]:
    made: list[Callable[[int], object]] = []

    def run() -> None:
        # Made in the worker that times it, so that no process imports every rival.
        if not made:
            made.append(make())
        price = made[0]
        for number in range(len(NAMES)):
            price(number)

    return run


def python() -> str:
    """Return the interpreter of the rivals' environment, made if need be."""
    path = VENV / "bin" / "python"
    beside = Path(sys.executable).with_name("uv")
    uv = str(beside) if beside.exists() else "uv"
    if not path.exists():
        subprocess.run([uv, "venv", "-q", "--python", sys.executable, str(VENV)], check=True)
    subprocess.run([uv, "pip", "install", "-q", "--python", str(path), *PACKAGES], check=True)
    return str(path)


def main() -> None:
    """Time, measure, print and write the table."""
    interpreter = python()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    here = str(Path(__file__).resolve())
    values: dict[str, list[float]] = {rival: [] for rival in RIVALS}
    # Round by round, so that a busy minute of the machine slows every rival and not one.
    for _ in range(ROUNDS):
        for rival in RIVALS:
            values[rival] += _timed(interpreter, here, rival, environment)
    table = render(values, {rival: _measured(interpreter, here, rival, environment) for rival in RIVALS})
    print(table)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(table, encoding="utf-8")


def _timed(interpreter: str, here: str, rival: str, environment: dict[str, str]) -> list[float]:
    output = ROOT / ".cache" / "bench-pricing.json"
    output.unlink(missing_ok=True)
    command = [interpreter, here, "--rival", rival, "-o", str(output), "--inherit-environ=PYTHONPATH", "-q"]
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
    (bench,) = json.loads(output.read_text())["benchmarks"]
    return [value for run in bench["runs"] for value in run.get("values", [])]


def _measured(interpreter: str, here: str, rival: str, environment: dict[str, str]) -> dict[str, float]:
    runs = []
    for _ in range(3):
        done = subprocess.run(
            [interpreter, here, "--measure", rival],
            capture_output=True,
            text=True,
            check=True,
            env=environment,
        )
        runs.append(json.loads(done.stdout.splitlines()[-1]))
    return min(runs, key=lambda run: run["ready_s"])


def render(values: dict[str, list[float]], measured: dict[str, dict[str, float]]) -> str:
    """Return the results as a page."""
    known = len(NAMES) - 1
    timings = {rival: statistics.median(timed) for rival, timed in values.items()}
    lines = [
        "# Pricing one call",
        "",
        "`python benchmarks/bench_pricing.py`: pyperf, medians of interleaved rounds; a value is the mean of",
        f"{len(NAMES)} names (dated, latest, fine-tuned, Bedrock, Azure, OpenRouter, one that nobody sells).",
        f"{os.cpu_count()} cores shared with others, load {os.getloadavg()[1]:.1f}, Python "
        f"{platform.python_version()}: compare ratios. *Least*: the value the others disturbed least.",
        "",
        f"| | us a call | least | ratio | resolved of {known} | priced at $0 | import and first use, s "
        "| memory, MB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for rival, timing in timings.items():
        one = measured[rival]
        cells = (
            rival,
            f"{timing * 1e6:.2f}",
            f"{min(values[rival]) * 1e6:.2f}",
            f"{timing / timings[RATIO_TO]:.1f}",
            one["resolved"],
            one["zero"],
            f"{one['ready_s']:.3f}",
            f"{one['memory_mb']:.0f}",
        )
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    if "--measure" in sys.argv:
        print(json.dumps(measure(sys.argv[-1])))
    elif "--rival" in sys.argv:
        perf(sys.argv[sys.argv.index("--rival") + 1])
    else:
        main()
