"""What the processor adds to a span, beside a no-op processor, in one run.

    python benchmarks/bench_processor.py            # a table, and benchmarks/results/processor.md

Spans are started and ended with ten attributes, as an instrumentation does it; kinds alternate round by round
so that a noisy machine disturbs all alike. Medians over rounds. Ratios count, not microseconds.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.trace import Tracer

from otel_cost.config import Config
from otel_cost.processor import CostSpanProcessor

CALL = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-4o-mini",
    "gen_ai.response.model": "gpt-4o-mini-2024-07-18",
    "gen_ai.usage.input_tokens": 1000,
    "gen_ai.usage.cache_read.input_tokens": 600,
    "gen_ai.usage.output_tokens": 200,
    "gen_ai.request.max_tokens": 500,
    "server.address": "api.openai.com",
}
PLAIN = {f"http.attribute.{number}": "value" for number in range(10)}
RESULTS = Path(__file__).parent / "results" / "processor.md"
IMPORT = """
import time

def resident_mib():
    with open("/proc/self/status") as status:
        return int(next(line for line in status if line.startswith("VmRSS")).split()[1]) / 1024

before, start = resident_mib(), time.perf_counter()
{imports}
print(time.perf_counter() - start, resident_mib() - before)
"""


def tracer_with(processor: SpanProcessor) -> Tracer:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(processor)
    return provider.get_tracer("opentelemetry.instrumentation.genai.openai", "1.3b0")


def spans(tracer: Tracer, attributes: Mapping[str, object], count: int) -> float:
    """Return microseconds per span."""
    start = time.perf_counter()
    for number in range(count):
        tracer.start_span("span", attributes={**attributes, "gen_ai.response.id": f"r{start}{number}"}).end()
    return (time.perf_counter() - start) / count * 1e6


def alternate(tasks: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Run every task once a round, in turn."""
    found: dict[str, list[float]] = {name: [] for name in tasks}
    for task in tasks.values():
        task()
    for _ in range(rounds):
        for name, task in tasks.items():
            found[name].append(task())
    return found


def imported(imports: str) -> tuple[float, float]:
    """Return seconds and MiB of importing something in a fresh process, the best of five."""
    runs = []
    for _ in range(5):
        script = IMPORT.format(imports=imports)
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        seconds, mib = map(float, done.stdout.split())
        runs.append((seconds, mib))
    return min(run[0] for run in runs), statistics.median(run[1] for run in runs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--count", type=int, default=2000)
    asked = parser.parse_args()
    noop, ours = tracer_with(SpanProcessor()), tracer_with(CostSpanProcessor(Config(metrics=True)))
    found = alternate(
        {
            "plain span, no-op processor": lambda: spans(noop, PLAIN, asked.count),
            "plain span, CostSpanProcessor": lambda: spans(ours, PLAIN, asked.count),
            "LLM span, no-op processor": lambda: spans(noop, CALL, asked.count),
            "LLM span, CostSpanProcessor": lambda: spans(ours, CALL, asked.count),
        },
        asked.rounds,
    )
    median = {name: statistics.median(runs) for name, runs in found.items()}
    sdk = imported("import opentelemetry.sdk.trace, opentelemetry.sdk.metrics")
    agent = imported(
        "import opentelemetry.sdk.trace, opentelemetry.sdk.metrics\n"
        "from otel_cost.processor import CostSpanProcessor; CostSpanProcessor()"
    )
    report(median, sdk, agent, asked.rounds, asked.count)


def report(
    median: dict[str, float], sdk: tuple[float, float], agent: tuple[float, float], rounds: int, count: int
) -> None:
    lines = [
        "# What the processor adds",
        "",
        f"`python benchmarks/bench_processor.py --rounds {rounds} --count {count}`: medians of {rounds}",
        "alternating rounds, one process, 2 shared cores. Ratios count.",
        "",
        "| | us per span | times no-op |",
        "|---|---|---|",
    ]
    for kind in ("plain span", "LLM span"):
        base = median[f"{kind}, no-op processor"]
        for name, value in median.items():
            if name.startswith(kind):
                lines.append(f"| {name} | {value:.1f} | {value / base:.2f} |")
        added = median[f"{kind}, CostSpanProcessor"] - base
        lines.append(f"| {kind}: added | {added:.1f} | |")
    lines += [
        "",
        "| import, fresh process | s | MiB (Linux, resident) |",
        "|---|---|---|",
        f"| OpenTelemetry SDK alone | {sdk[0]:.3f} | {sdk[1]:.1f} |",
        f"| with the processor made and prices loaded | {agent[0]:.3f} | {agent[1]:.1f} |",
        f"| added | {agent[0] - sdk[0]:.3f} | {agent[1] - sdk[1]:.1f} |",
        "",
    ]
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text("\n".join(lines), encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
