"""Spans per second through each part of the pipeline, side by side in one run. Reports, never gates.

    python benchmarks/bench_ingest.py [--spans 40960] [--rounds 3]

Spans are 2.9 kB in protobuf, shaped like those of an instrumented chat call. The median of interleaved rounds
is shown, with the ratio to decoding protobuf, because absolute numbers differ between machines.
"""

from __future__ import annotations

import argparse
import gc
import os
import pickle
import platform
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_cost.server import otlp_json, otlp_protobuf

RESULTS = Path(__file__).parent / "results" / "ingest.md"
BATCH = 512
BASE = "decode + flatten protobuf"
START_NS = 1_790_000_000 * 10**9
OTEL_COST = [sys.executable, "-c", "from otel_cost.cli.main import main; main()"]


def make_requests(count: int, seed: int) -> list[dict[str, object]]:
    """Return OTLP/JSON requests of `BATCH` model calls each."""
    random_ids = random.Random(seed)
    spans = [make_span(random_ids, index) for index in range(count)]
    resource = {
        "attributes": [attribute("service.name", "agent"), attribute("deployment.environment.name", "prod")]
    }
    scope = {"name": "opentelemetry.instrumentation.genai.openai", "version": "1.3b0"}
    return [
        {
            "resourceSpans": [
                {"resource": resource, "scopeSpans": [{"scope": scope, "spans": spans[at : at + BATCH]}]}
            ]
        }
        for at in range(0, count, BATCH)
    ]


def attribute(key: str, value: str | int | float) -> dict[str, object]:
    """Return one attribute in OTLP/JSON."""
    if isinstance(value, str):
        return {"key": key, "value": {"stringValue": value}}
    if isinstance(value, int):
        return {"key": key, "value": {"intValue": str(value)}}
    return {"key": key, "value": {"doubleValue": value}}


def make_span(ids: random.Random, index: int) -> dict[str, object]:
    """Return a model call with usage, identity and messages; eight to a trace."""
    start = START_NS + index * 1_000_000
    values = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-5",
        "gen_ai.response.model": "gpt-5-2025-08-07",
        "gen_ai.response.id": f"resp_{ids.randbytes(12).hex()}",
        "gen_ai.usage.input_tokens": 1000 + index % 100,
        "gen_ai.usage.cache_read.input_tokens": 600,
        "gen_ai.usage.output_tokens": 200,
        "gen_ai.usage.reasoning.output_tokens": 150,
        "gen_ai.request.temperature": 0.7,
        "gen_ai.conversation.id": f"c{index // 8}",
        "user.id": f"u{index % 50}",
        "gen_ai.agent.name": "researcher",
        "server.address": "api.openai.com",
        "gen_ai.input.messages": ids.randbytes(800).hex(),
        "gen_ai.output.messages": ids.randbytes(300).hex(),
    }
    return {
        "traceId": f"{1 + index // 8:032x}",
        "spanId": ids.randbytes(8).hex(),
        "name": "chat gpt-5",
        "kind": 3,
        "startTimeUnixNano": str(start),
        "endTimeUnixNano": str(start + 900_000_000),
        "attributes": [attribute(key, value) for key, value in values.items()],
        "events": [
            {"name": "gen_ai.choice", "timeUnixNano": str(start), "attributes": [attribute("index", 0)]}
        ],
        "status": {"code": 1},
    }


def to_protobuf(document: dict[str, object]) -> bytes:
    """Return the same request in protobuf."""
    from google.protobuf.json_format import ParseDict

    request = ParseDict(document, ExportTraceServiceRequest())
    spans = document["resourceSpans"][0]["scopeSpans"][0]["spans"]  # type: ignore[index]
    for span, source in zip(request.resource_spans[0].scope_spans[0].spans, spans, strict=True):
        span.trace_id, span.span_id = bytes.fromhex(source["traceId"]), bytes.fromhex(source["spanId"])
    return request.SerializeToString()


def serve(directory: Path) -> tuple[subprocess.Popen[str], str]:
    """Start `otel-cost up` and return the process and its URL."""
    command = [*OTEL_COST, "up", "--store", f"chdb://{directory}", "--http", "127.0.0.1:0", "--grpc", ""]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    url = ""
    for line in process.stdout:
        if "OTLP/HTTP" in line:
            url = line.split()[1]
        if line.startswith("next:"):
            return process, url
    raise RuntimeError("otel-cost up did not start")


def post_all(url: str, bodies: list[bytes], senders: int) -> None:
    """Send bodies from several threads, as several services would."""

    def send(part: list[bytes]) -> None:
        for body in part:
            request = urllib.request.Request(
                f"{url}/v1/traces", body, {"Content-Type": "application/x-protobuf"}, method="POST"
            )
            with urllib.request.urlopen(request, timeout=120) as response:
                response.read()

    threads = [threading.Thread(target=send, args=(bodies[at::senders],)) for at in range(senders)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def in_process(work: Callable[[], object]) -> float:
    """Return the CPU seconds a piece of work takes on one core."""
    gc.collect()
    gc.disable()
    started = time.process_time()
    work()
    elapsed = time.process_time() - started
    gc.enable()
    return elapsed


def measure(count: int, rounds: int, directory: Path) -> dict[str, list[float]]:
    """Return spans per second of every path, one number a round."""
    found: dict[str, list[float]] = {}
    prepared = directory / "prepared"
    process, _ = serve(prepared)
    stop(process)
    for number in range(rounds):
        round_directory = directory / f"round{number}"
        round_directory.mkdir()
        for path, seconds in one_round(count, number, prepared, round_directory):
            found.setdefault(path, []).append(count / seconds)
        shutil.rmtree(round_directory)
    return found


def one_round(count: int, seed: int, prepared: Path, directory: Path) -> Iterator[tuple[str, float]]:
    """Yield each path and the seconds it took."""
    documents = make_requests(count, seed)
    text = [orjson.dumps(document) for document in documents]
    binary = [to_protobuf(document) for document in documents]
    parse = ExportTraceServiceRequest.FromString
    yield "decode protobuf", in_process(lambda: [parse(body) for body in binary])
    yield BASE, in_process(lambda: [otlp_protobuf.decode_protobuf(body) for body in binary])
    yield "decode JSON", in_process(lambda: [orjson.loads(body) for body in text])
    yield "decode + flatten JSON", in_process(lambda: [otlp_json.decode_json(body) for body in text])
    rows = [row for body in binary for row in otlp_protobuf.decode_protobuf(body).rows]
    for batch in (1_000, 20_000):
        name = f"insert, price and account, {batch:,} a batch"
        yield name, insert(rows, batch, copied(prepared, directory / f"direct{batch}"))
    process, url = serve(copied(prepared, directory / "served"))
    for senders in (1, 8, 32):
        started = time.perf_counter()
        post_all(url, binary, senders)
        yield f"OTLP/HTTP, {senders} senders of {BATCH}", time.perf_counter() - started
    stop(process)
    for name, data in (("jsonl", b"\n".join(text)), ("pb", b"".join(framed(body) for body in binary))):
        path = directory / f"spans.{name}"
        path.write_bytes(data)
        yield f"import, {name}", run_import(path, copied(prepared, directory / f"imported-{name}"))


def copied(prepared: Path, directory: Path) -> Path:
    """Return a copy of the empty store, so that making tables is not measured."""
    shutil.copytree(prepared, directory, symlinks=True)
    return directory


def framed(body: bytes) -> bytes:
    """Return a message behind its size, as the file exporter writes it."""
    return len(body).to_bytes(4, "big") + body


def stop(process: subprocess.Popen[str]) -> None:
    """Stop a server in order."""
    process.terminate()
    process.wait(60)


INSERT = """
import gc, pickle, sys, time
from otel_cost.server.spans import to_columns
from otel_cost.store import open_store
gc.disable()
batches = pickle.load(sys.stdin.buffer)
with open_store(sys.argv[1]) as store:
    store.insert_spans(to_columns(batches[0][:10]))
    started = time.perf_counter()
    for batch in batches:
        store.insert_spans(to_columns(batch))
    print(time.perf_counter() - started)
"""


def insert(rows: list[tuple[object, ...]], batch: int, directory: Path) -> float:
    """Insert rows in a process of its own, as an embedded engine serves one path a process."""
    batches = [rows[at : at + batch] for at in range(0, len(rows), batch)]
    command = [sys.executable, "-c", INSERT, f"chdb://{directory}"]
    done = subprocess.run(command, input=pickle.dumps(batches), stdout=subprocess.PIPE, check=True)
    return float(done.stdout)


def run_import(path: Path, directory: Path) -> float:
    """Run the command on a file and return the seconds it says it took, its start left out."""
    command = [*OTEL_COST, "import", "--json", "--store", f"chdb://{directory}", str(path)]
    done = subprocess.run(command, check=True, capture_output=True)
    return float(orjson.loads(done.stdout)["duration_s"])


def report(found: dict[str, list[float]], count: int, rounds: int) -> str:
    """Return the table in Markdown."""
    base = statistics.median(found[BASE])
    lines = [
        "# Ingest",
        "",
        f"Medians of {rounds} interleaved rounds of {count:,} spans of 2.9 kB; {os.cpu_count()} cores, "
        f"Python {platform.python_version()}, load {os.getloadavg()[1]:.1f}. Decoding is per second of one "
        "core's time; the rest is by the clock, with whatever else the machine did: read the ratios.",
        "",
        "| path | spans/s | of decode + flatten |",
        "|---|---:|---:|",
    ]
    for path, speeds in found.items():
        middle = statistics.median(speeds)
        lines.append(f"| {path} | {middle:,.0f} | {middle / base:.2f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, print and keep the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spans", type=int, default=40_960)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        found = measure(options.spans, options.rounds, Path(directory))
    table = report(found, options.spans, options.rounds)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(table, encoding="utf-8")
    print(table)


if __name__ == "__main__":
    main()
