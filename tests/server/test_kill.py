"""`kill -9` at any moment: no acknowledged span is lost, none is counted twice."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import threading
import time
from decimal import Decimal
from pathlib import Path

import pytest
import requests
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_cost.store import open_store
from tests.server.commands import COMMAND, Up, environment, otel_cost, serving
from tests.server.harness import START_NS

SENDERS = 3
SPANS = 40
COST_USD = Decimal("0.0045")
"""1000 tokens in, 200 out of gpt-4o: $2.50, $10.00 a million, https://openai.com/api/pricing, 2026-08-21."""
SEEN = (
    "SELECT count(), uniqExact(span_id), sum(ifNull(cost_usd, 0)) FROM charges FINAL"
    " WHERE response_id IN {ids:Array(String)}"
)
TOTALS = (
    "SELECT count(), uniqExact(trace_id, span_id), sum(cost_usd), countIf(NOT counted) FROM charges FINAL"
    " WHERE kind = 'model'"
)


def priced_request(seed: int, spans: int = SPANS) -> ExportTraceServiceRequest:
    """Return model calls of $0.0045 each, four to a trace, under a chain span that repeats their tokens."""
    ids, request = random.Random(seed), ExportTraceServiceRequest()
    group = request.resource_spans.add().scope_spans.add()
    group.scope.name = "test"
    for index in range(spans):
        if index % 4 == 0:
            trace_id, parent = ids.randbytes(16), ids.randbytes(8)
        span = group.spans.add(
            trace_id=trace_id,
            span_id=ids.randbytes(8),
            parent_span_id=parent,
            name="chat gpt-4o",
            kind=3,
            start_time_unix_nano=START_NS + index * 10**9,
            end_time_unix_nano=START_NS + index * 10**9 + 10**8,
        )
        texts = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": "gpt-4o",
        }
        texts["gen_ai.response.id"] = f"r{seed}-{index}"
        for key, text in texts.items():
            span.attributes.add(key=key).value.string_value = text
        span.attributes.add(key="gen_ai.usage.input_tokens").value.int_value = 1000
        span.attributes.add(key="gen_ai.usage.output_tokens").value.int_value = 200
    return request


class Sender(threading.Thread):
    """Sends requests one after another until the server is gone; remembers which were acknowledged."""

    def __init__(self, up: Up, seeds: list[int]) -> None:
        super().__init__(daemon=True)
        self.up, self.seeds = up, seeds
        self.acknowledged: list[int] = []

    def run(self) -> None:
        """Send until something fails."""
        headers = {"Content-Type": "application/x-protobuf"}
        with requests.Session() as session:
            for seed in self.seeds:
                body = priced_request(seed).SerializeToString()
                try:
                    response = session.post(f"{self.up.http}/v1/traces", body, headers=headers, timeout=60)
                except requests.RequestException:
                    return
                if response.status_code == 200:
                    self.acknowledged.append(seed)


def test_kill_during_ingest(fresh_store: Path) -> None:
    """Four kills at random moments; then what was not acknowledged is sent again, as senders do."""
    chosen = random.Random()
    acknowledged: set[int] = set()
    sent: set[int] = set()
    for round_number in range(4):
        with serving(fresh_store) as up:
            check(up, acknowledged)
            seeds = [
                list(range(1000 * round_number + 100 * n, 1000 * round_number + 100 * n + 60))
                for n in range(SENDERS)
            ]
            senders = [Sender(up, part) for part in seeds]
            for sender in senders:
                sender.start()
            time.sleep(chosen.uniform(0.3, 4.0))
            up.end(signal.SIGKILL)
            for sender in senders:
                sender.join(60)
                acknowledged |= set(sender.acknowledged)
                sent |= set(sender.seeds[: len(sender.acknowledged) + 1])
    with serving(fresh_store) as up:
        check(up, acknowledged)
        lost = Sender(up, sorted(sent - acknowledged) + sorted(acknowledged)[:3])
        lost.run()
        assert len(lost.acknowledged) == len(lost.seeds)
        count, unique, cost, uncounted = up.query(TOTALS).split()
        assert int(count) == int(unique) == len(sent) * SPANS
        assert Decimal(cost) == len(sent) * SPANS * COST_USD
        assert uncounted == "0"


def check(up: Up, acknowledged: set[int]) -> None:
    """Every acknowledged span is there, once, and costs what it should."""
    response_ids = [f"r{seed}-{index}" for seed in acknowledged for index in range(SPANS)]
    ids = "[" + ",".join(f"'{each}'" for each in response_ids) + "]"
    fields = {"query": (None, SEEN), "param_ids": (None, ids)}
    answer = requests.post(f"{up.http}/clickhouse", files=fields, timeout=60)
    assert answer.status_code == 200, answer.text
    count, unique, cost = answer.text.split()
    assert int(count) == int(unique) == len(response_ids)
    assert Decimal(cost) == len(response_ids) * COST_USD


@pytest.mark.parametrize("layout", ["lines", "messages"])
def test_kill_during_import(fresh_store: Path, tmp_path: Path, layout: str) -> None:
    """An import killed several times and started again ends with every span, each once."""
    path = tmp_path / f"spans.{layout}"
    requests_made = [priced_request(seed, 400) for seed in range(120)]
    write_file(path, requests_made, layout)
    command = [*COMMAND, "import", "--json", "--store", f"chdb://{fresh_store}", str(path)]
    kills, chosen = 0, random.Random()
    for longer in range(1, 5):  # a machine is fast or slow: from the first seconds to near the end of one
        with subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment()
        ) as running:
            try:
                running.wait(chosen.uniform(0.5, 1.5) * longer)
            except subprocess.TimeoutExpired:
                running.kill()
                kills += 1
    final = otel_cost("import", "--json", "--store", f"chdb://{fresh_store}", str(path))
    assert final.returncode == 0, final.stderr
    assert kills > 0, "no import was killed: make the file larger"
    with open_store(f"chdb://{fresh_store}") as store:
        count, unique, cost, uncounted = store.sql(TOTALS, fmt="TabSeparated").decode().split()
    assert int(count) == int(unique) == 48_000
    assert Decimal(cost) == 48_000 * COST_USD
    assert uncounted == "0"


def write_file(path: Path, requests_made: list[ExportTraceServiceRequest], layout: str) -> None:
    """Write requests as the file exporter does."""
    from tests.server.test_importer import otlp_json

    with path.open("wb") as file:
        for request in requests_made:
            body = request.SerializeToString()
            if layout == "messages":
                file.write(len(body).to_bytes(4, "big") + body)
            else:
                file.write(json.dumps(otlp_json(request)).encode() + b"\n")
