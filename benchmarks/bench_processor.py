"""What the processor adds to a span, beside a no-op processor, in one run.

    python benchmarks/bench_processor.py            # a table, and benchmarks/results/processor.md

Spans are started and ended with ten attributes, as an instrumentation does it, each alone in its trace:
every one gets an execution, and its totals. Kinds alternate span by span, so that a noisy machine disturbs
all alike. Ratios count, not microseconds.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.trace import Tracer

from otel_cost import processor
from otel_cost.config import Config
from otel_cost.executions import Executions
from otel_cost.metrics import CostMetrics
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
PLAIN = {f"http.attribute.{number}": "value" for number in range(9)}
KINDS = {"plain": PLAIN, "LLM": CALL}
WARM_UP = 5_000
"""Spans of each kind made first: more than the calls and executions that are remembered."""
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
STAGES: dict[str, tuple[tuple[object, str], ...]] = {
    "follow (on start)": ((CostSpanProcessor, "on_start"),),
    "read usage": ((processor, "_read"),),
    "price": ((processor, "charge"),),
    "account": ((processor, "_facts"), (Executions, "end")),
    "enrich": (
        (CostSpanProcessor, "_payer"),
        (CostSpanProcessor, "_write"),
        (processor, "_write_totals"),
    ),
    "metrics": ((CostMetrics, "record"),),
}
Times = list[int]
"""Nanoseconds, one for each span."""


def tracer_with(span_processor: SpanProcessor) -> Tracer:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(span_processor)
    return provider.get_tracer("opentelemetry.instrumentation.genai.openai", "1.3b0")


def whole_span(tracer: Tracer, attributes: Mapping[str, Any], number: int) -> int:
    """Return the nanoseconds of starting and ending a span."""
    start = time.perf_counter_ns()
    tracer.start_span("span", attributes={**attributes, "gen_ai.response.id": f"r{start}{number}"}).end()
    return time.perf_counter_ns() - start


def hooks(tracer: Tracer, asked: SpanProcessor, attributes: Mapping[str, Any], number: int) -> int:
    """Return the nanoseconds that a processor's three methods take for a span."""
    span: Any = tracer.start_span("span", attributes={**attributes, "gen_ai.response.id": f"h{number}"})
    span._end_time = time.time_ns()
    start = time.perf_counter_ns()
    asked.on_start(span, None)
    asked._on_ending(span)
    asked.on_end(span)
    return time.perf_counter_ns() - start


def alternate(tasks: Mapping[str, Callable[[int], int]], count: int) -> dict[str, Times]:
    """Run every task in turn for one span, again and again."""
    found: dict[str, Times] = {name: [] for name in tasks}
    for number in range(WARM_UP + count):
        for name, task in tasks.items():
            found[name].append(task(number))
    return {name: times[WARM_UP:] for name, times in found.items()}


def spans(count: int) -> dict[str, Times]:
    """Return the times of whole spans, of each kind with each processor."""
    tracers = {
        "no-op": tracer_with(SpanProcessor()),
        "CostSpanProcessor": tracer_with(CostSpanProcessor(Config(metrics=True))),
        "without metrics": tracer_with(CostSpanProcessor(Config(metrics=False))),
    }
    return alternate(
        {
            f"{kind} span, {name}": lambda number, a=attributes, t=tracer: whole_span(t, a, number)
            for kind, attributes in KINDS.items()
            for name, tracer in tracers.items()
        },
        count,
    )


def additions(count: int) -> dict[str, Times]:
    """Return what the processor's methods take for each span; the no-op's are the timing's own cost."""
    tracer = tracer_with(SpanProcessor())
    processors = {"no-op": SpanProcessor(), "ours": CostSpanProcessor(Config(metrics=True))}
    found = alternate(
        {
            f"{kind} {name}": lambda number, a=attributes, p=asked: hooks(tracer, p, a, number)
            for kind, attributes in KINDS.items()
            for name, asked in processors.items()
        },
        count,
    )
    idle = {kind: statistics.median(found[f"{kind} no-op"]) for kind in KINDS}
    return {kind: [round(ns - idle[kind]) for ns in found[f"{kind} ours"]] for kind in KINDS}


def breakdown(count: int) -> dict[str, Times]:
    """Return what each stage takes for an LLM span, less what timing it takes."""
    found: dict[str, Times] = {name: [0] * (WARM_UP + count) for name in ("timing", *STAGES)}
    parts = [(name, *part) for name, members in STAGES.items() for part in members]
    at = [0]
    with timed(parts, found, at):
        asked, tracer = CostSpanProcessor(Config(metrics=True)), tracer_with(SpanProcessor())
        idle = timer(lambda: None, found["timing"], at)
        for at[0] in range(WARM_UP + count):
            idle()
            hooks(tracer, asked, CALL, at[0])
    cost = statistics.median(found.pop("timing")[WARM_UP:])
    costs = {name: cost * len(members) for name, members in STAGES.items()}
    return {name: [round(ns - costs[name]) for ns in times[WARM_UP:]] for name, times in found.items()}


@contextmanager
def timed(parts: list[tuple[str, object, str]], found: dict[str, Times], at: list[int]) -> Iterator[None]:
    """Time functions and methods in place."""
    originals = [(owner, name, getattr(owner, name)) for _, owner, name in parts]
    for stage, owner, name in parts:
        setattr(owner, name, timer(getattr(owner, name), found[stage], at))
    try:
        yield
    finally:
        for owner, name, original in originals:
            setattr(owner, name, original)


def timer(function: Callable[..., Any], times: Times, at: list[int]) -> Callable[..., Any]:
    def timed_function(*args: Any, **named: Any) -> Any:
        start = time.perf_counter_ns()
        made = function(*args, **named)
        times[at[0]] += time.perf_counter_ns() - start
        return made

    return timed_function


def imported(imports: str) -> tuple[float, float]:
    """Return seconds and MiB of importing something in a fresh process, the best of five."""
    runs = []
    for _ in range(5):
        script = IMPORT.format(imports=imports)
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        seconds, mib = map(float, done.stdout.split())
        runs.append((seconds, mib))
    return min(run[0] for run in runs), statistics.median(run[1] for run in runs)


def percentile(times: Times, percent: int) -> float:
    """Return a percentile in microseconds."""
    return sorted(times)[len(times) * percent // 100] / 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=20_000)
    count = parser.parse_args().count
    lines = [*report(count, spans(count), additions(count), breakdown(count)), *report_import()]
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text("\n".join(lines), encoding="utf-8")
    print("\n".join(lines))


def report(
    count: int, whole: dict[str, Times], added: dict[str, Times], stages: dict[str, Times]
) -> list[str]:
    lines = [
        "# What the processor adds",
        "",
        f"`python benchmarks/bench_processor.py --count {count}`: {count} spans of each kind after {WARM_UP}",
        "to warm up, alternating span by span in one process, 2 shared cores. Ratios count.",
        "",
        "| whole span | p50 us | p99 us | p50, times no-op |",
        "|---|---|---|---|",
    ]
    for name, times in whole.items():
        ratio = percentile(times, 50) / percentile(whole[f"{name.split(',')[0]}, no-op"], 50)
        lines.append(f"| {name} | {percentile(times, 50):.1f} | {percentile(times, 99):.1f} | {ratio:.2f} |")
    lines += ["", "| added: our methods, timed alone | p10 us | p50 us | p99 us |", "|---|---|---|---|"]
    lines += [row(f"{kind} span", times) for kind, times in added.items()]
    lines += ["", "| of an LLM span | p10 us | p50 us | p99 us |", "|---|---|---|---|"]
    return lines + [row(name, times) for name, times in stages.items()]


def row(name: str, times: Times) -> str:
    return f"| {name} | {' | '.join(f'{percentile(times, percent):.1f}' for percent in (10, 50, 99))} |"


def report_import() -> list[str]:
    sdk = imported("import opentelemetry.sdk.trace, opentelemetry.sdk.metrics")
    agent = imported(
        "import opentelemetry.sdk.trace, opentelemetry.sdk.metrics\n"
        "from otel_cost.processor import CostSpanProcessor; CostSpanProcessor()"
    )
    return [
        "",
        "| import, fresh process | s | MiB (Linux, resident) |",
        "|---|---|---|",
        f"| OpenTelemetry SDK alone | {sdk[0]:.3f} | {sdk[1]:.1f} |",
        f"| with the processor made and prices loaded | {agent[0]:.3f} | {agent[1]:.1f} |",
        f"| added | {agent[0] - sdk[0]:.3f} | {agent[1] - sdk[1]:.1f} |",
        "",
    ]


if __name__ == "__main__":
    main()
