"""Programs that know nothing of OpenTelemetry, run as `otel-cost run` and the stock launcher run them."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
import urllib.request
from decimal import Decimal
from pathlib import Path

import pytest

from otel_cost.exporter import DEFAULT_GRPC_ENDPOINT, is_reachable
from otel_cost.fake_provider import FakeProvider, Reply
from otel_cost.usage import Usage
from tests.agents.harness import Collector, Program, send_to
from tests.servers import free_port

# gpt-5-mini: $0.25 input, $0.025 cached, $2.00 output per million tokens
# (genai-prices 0.2.3, from https://developers.openai.com/api/docs/pricing).
# 400 * 0.25 + 600 * 0.025 + 200 * 2.00 = 100 + 15 + 400 = 515 millionths of a dollar.
USAGE = Usage(input_tokens=400, cache_read_tokens=600, output_tokens=50, reasoning_tokens=150)
CALL_USD = Decimal("0.000515")

CALL = """
import openai
client = openai.OpenAI(max_retries=0)
def call():
    return client.chat.completions.create(model="gpt-5-mini", messages=[{"role": "user", "content": "hi"}])
"""

# The same call as a span made by hand, for tests that are about the process and not about the SDK.
SPAN = """
from opentelemetry import trace
def call():
    attributes = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai"}
    attributes |= {"gen_ai.request.model": "gpt-5-mini", "gen_ai.usage.input_tokens": 1000}
    attributes |= {"gen_ai.usage.cache_read.input_tokens": 600, "gen_ai.usage.output_tokens": 200}
    with trace.get_tracer("test").start_as_current_span("chat", attributes=attributes): pass
"""


@pytest.fixture
def provider():
    """A provider that bills the same usage for every call."""
    with FakeProvider(Reply(usage=USAGE)) as provider:
        yield provider


def run(
    code: str, provider: FakeProvider, collector: Collector, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a program after `CALL` to its end."""
    return Program(CALL + code).run(provider.environment, send_to(collector), environment)


def run_spans(code: str, collector: Collector, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program after `SPAN` to its end."""
    return Program(SPAN + code).run(send_to(collector), environment)


def test_a_loop_of_calls_is_one_execution(provider, collector):
    """Three calls of a bare loop share one trace, whose root says what they cost together."""
    finished = run("for _ in range(3): call()", provider, collector)
    assert finished.returncode == 0, finished.stderr
    assert [span.cost_usd for span in collector.counted()] == [CALL_USD] * 3
    (root,) = [span for span in collector.spans if not span.parent_id]
    assert root.name == "execution -c"
    assert {span.trace_id for span in collector.spans} == {root.trace_id}
    assert Decimal(root.attributes["otel_cost.execution.cost_usd"]) == 3 * CALL_USD
    assert root.attributes["otel_cost.execution.model_calls"] == 3


def test_plain_opentelemetry_instrument_does_the_same(provider, collector, tmp_path):
    """The stock launcher needs no option of ours: the entry point does the rest."""
    script = tmp_path / "agent.py"
    script.write_text(CALL + "call()")
    launcher = Path(sys.executable).with_name("opentelemetry-instrument")
    environment = Program("", instrumented=False).environ(
        provider.environment,
        {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"},
        {"OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none"},
    )
    finished = subprocess.run(
        [launcher, sys.executable, script], env=environment, capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr
    assert [span.cost_usd for span in collector.counted()] == [CALL_USD]
    assert [span.name for span in collector.spans if not span.parent_id] == ["execution agent.py"]


def test_threads_stay_in_the_trace(collector):
    """Calls of raw threads and of a thread pool belong to the execution."""
    code = """
import threading
from concurrent.futures import ThreadPoolExecutor
thread = threading.Thread(target=call); thread.start(); thread.join()
with ThreadPoolExecutor(2) as pool: list(pool.map(lambda _: call(), range(2)))
"""
    assert run_spans(code, collector).returncode == 0
    assert len(collector.counted()) == 3
    assert len({span.trace_id for span in collector.spans}) == 1


def test_forked_workers_are_metered(collector):
    """Calls of multiprocessing workers that were forked arrive, in the parent's trace."""
    code = """
import multiprocessing, os
workers = [multiprocessing.get_context("fork").Process(target=call) for _ in range(2)]
for worker in workers: worker.start()
for worker in workers: worker.join()
call()
"""
    finished = run_spans(code, collector, PYTHONWARNINGS="ignore")
    assert finished.returncode == 0, finished.stderr
    assert [span.cost_usd for span in collector.counted()] == [CALL_USD] * 3
    assert len({span.trace_id for span in collector.spans}) == 1
    assert len([span for span in collector.spans if not span.parent_id]) == 1


def test_spawned_workers_are_metered(collector, tmp_path):
    """Workers that multiprocessing spawns work in the parent's trace, without root spans of their own."""
    script = tmp_path / "agent.py"
    script.write_text(f"""{SPAN}
import multiprocessing
if __name__ == "__main__":
    worker = multiprocessing.get_context("spawn").Process(target=call)
    worker.start(); worker.join()
    call()
""")
    finished = Program(script).run(send_to(collector))
    assert finished.returncode == 0, finished.stderr
    assert [span.cost_usd for span in collector.counted()] == [CALL_USD] * 2
    (root,) = [span for span in collector.spans if span.name.startswith("execution")]
    assert {span.parent_id for span in collector.counted()} == {root.span_id}


def test_a_child_process_continues_the_trace(collector):
    """A Python program started by the program is instrumented too, and part of its execution."""
    code = f"""
import subprocess, sys
subprocess.run([sys.executable, "-c", {SPAN + "call()"!r}], check=True)
call()
"""
    finished = run_spans(code, collector)
    assert finished.returncode == 0, finished.stderr
    assert len(collector.counted()) == 2
    assert len({span.trace_id for span in collector.spans}) == 1
    assert len([span for span in collector.spans if not span.parent_id]) == 1


@pytest.mark.parametrize(
    ("ending", "status"),
    [("raise ValueError('secret')", 1), ("import sys; sys.exit(3)", 3), ("raise KeyboardInterrupt", -2)],
)
def test_nothing_is_lost_however_the_program_ends(collector, ending, status):
    """An unhandled exception or an early exit keeps its status, and the spans arrive."""
    finished = run_spans(f"call()\n{ending}", collector)
    assert finished.returncode == status
    assert [span.cost_usd for span in collector.counted()] == [CALL_USD]
    assert len(collector.named("execution -c")) == 1


def test_a_failed_execution_is_marked_without_its_message(collector):
    """The root of a program that died has the error's type; its message may quote a prompt."""
    run_spans("raise ValueError('secret')", collector)
    (root,) = collector.spans
    assert root.status == 2
    assert root.attributes["error.type"] == "ValueError"
    assert "secret" not in repr(root)


def test_sigterm_flushes_and_still_terminates(collector):
    """A program told to stop sends what it holds, and dies of the signal."""
    program = Program(SPAN + "call(); print('ready', flush=True); import time; time.sleep(60)")
    process = program.start(send_to(collector), {"OTEL_BSP_SCHEDULE_DELAY": "60000"})
    with process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == -signal.SIGTERM
    assert [span.cost_usd for span in collector.counted()] == [CALL_USD]


def test_an_absent_collector_costs_one_line_and_no_time():
    """With nobody listening the program runs as fast as ever, and says once where its spans went."""
    code = SPAN + "import time; t = time.time(); [call() for _ in range(3)]; print(time.time() - t)"
    environment = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{free_port()}",
        "OTEL_BSP_SCHEDULE_DELAY": "1",
    }
    started = time.monotonic()
    finished = Program(code).run(environment)
    took_s = time.monotonic() - started
    assert finished.returncode == 0
    assert len(finished.stderr.strip().splitlines()) == 1
    assert "otel-cost up" in finished.stderr
    assert float(finished.stdout) < 3
    assert took_s < 20


def test_the_stock_launcher_does_not_wait_for_an_absent_collector_either(tmp_path):
    """With a distribution's default endpoint and nobody there: one line, and no ten seconds at the end."""
    if is_reachable(DEFAULT_GRPC_ENDPOINT):
        pytest.skip(f"something listens at {DEFAULT_GRPC_ENDPOINT}")
    script = tmp_path / "agent.py"
    script.write_text(SPAN + "call()")
    launcher = Path(sys.executable).with_name("opentelemetry-instrument")
    environment = Program("", instrumented=False).environ()
    started = time.monotonic()
    finished = subprocess.run(
        [launcher, sys.executable, script], env=environment, capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0
    assert f"nothing listens at {DEFAULT_GRPC_ENDPOINT}" in finished.stderr
    assert len(finished.stderr.strip().splitlines()) == 1
    assert time.monotonic() - started < 8


def test_a_disabled_sdk_stays_disabled(provider, collector):
    """OTEL_SDK_DISABLED turns everything off; the program runs as it is."""
    finished = run("call()", provider, collector, OTEL_SDK_DISABLED="true")
    assert finished.returncode == 0
    assert collector.spans == []


def test_a_disabled_instrumentation_stays_disabled(provider, collector):
    """OTEL_PYTHON_DISABLED_INSTRUMENTATIONS keeps its meaning."""
    finished = run("call()", provider, collector, OTEL_PYTHON_DISABLED_INSTRUMENTATIONS="openai")
    assert finished.returncode == 0
    assert [span.name for span in collector.spans] == ["execution -c"]


def test_a_sampler_that_drops_everything_exports_nothing(collector):
    """OTEL_TRACES_SAMPLER decides what is exported; the program still runs."""
    finished = run_spans("call()", collector, OTEL_TRACES_SAMPLER="always_off")
    assert finished.returncode == 0
    assert collector.spans == []


def test_a_bad_setting_leaves_the_program_alone(collector):
    """A setting that cannot be used is named in one line; only strict mode makes it fatal."""
    settings = {"OTEL_COST_INSTRUMENTORS": "offical"}
    finished = run_spans("call(); print('done')", collector, **settings)
    assert finished.returncode == 0
    assert finished.stdout == "done\n"
    assert "'offical' is not a family" in finished.stderr
    assert "Traceback" not in finished.stderr


def test_strict_mode_refuses_to_run_unmeasured(collector):
    """With OTEL_COST_STRICT a failed set-up ends the program before it spends anything."""
    settings = {"OTEL_COST_INSTRUMENTORS": "offical", "OTEL_COST_STRICT": "true"}
    finished = run_spans("print(1)", collector, **settings)
    assert finished.returncode != 0
    assert finished.stdout == ""


def test_libraries_are_not_imported_for_a_program_that_does_not_use_them(collector):
    """Instrumenting costs no import of a model library that the program leaves alone."""
    code = """
import sys
print(sorted({"openai", "anthropic", "agents", "langchain_core", "pydantic_ai"} & set(sys.modules)))
"""
    assert Program(code).run(send_to(collector)).stdout == "[]\n"


def test_a_server_has_no_root_of_its_own(provider, collector):
    """A script that becomes a server starts a trace per request, not one for its whole life."""
    code = """
import threading, urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        call(); self.send_response(200); self.end_headers()
    def log_message(self, *args): pass
server = HTTPServer(("127.0.0.1", 0), Handler)
def visit():
    for _ in range(2): urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}").close()
    server.shutdown()
threading.Thread(target=visit).start()
server.serve_forever()
server.server_close()
"""
    finished = run(code, provider, collector)
    assert finished.returncode == 0, finished.stderr
    calls = collector.counted()
    assert len(calls) == 2
    assert len({span.trace_id for span in calls}) == 2
    assert all(not span.parent_id for span in calls)


@pytest.mark.parametrize("started", ["by its own name", "by a script"])
def test_requests_to_an_asgi_server_are_executions(collector, tmp_path, started):
    """Under uvicorn, started either way, each request's calls are a trace; a stop flushes them."""
    port = free_port()
    app = """
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
async def answer(request):
    call()
    return PlainTextResponse("ok")
app = Starlette(routes=[Route("/", answer)])
if __name__ == "__main__":
    import uvicorn
    uvicorn.run(app, port=%d, log_level="error")
"""
    (tmp_path / "served.py").write_text(SPAN.replace("call", "model_call") + BOTH + app % port)
    server = [str(Path(sys.executable).with_name("uvicorn")), "--app-dir", str(tmp_path), "--port", str(port)]
    named = [sys.executable, *server, "--log-level", "error", "served:app"]
    command = named if started == "by its own name" else [sys.executable, str(tmp_path / "served.py")]
    environment = Program("").environ(send_to(collector), {"PYTHONWARNINGS": "ignore"})
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        for _ in range(2):
            _visit(f"http://127.0.0.1:{port}/", process)
        process.send_signal(signal.SIGTERM)
        process.wait(10)
    requests = [span for span in collector.spans if span.name == "request"]
    assert len(requests) == 2
    assert not any(span.parent_id for span in requests)
    calls = collector.counted()
    assert len(calls) == 4
    assert {span.trace_id for span in calls} == {span.trace_id for span in requests}


BOTH = """
def call():
    with trace.get_tracer("web").start_as_current_span("request"):
        model_call()
        model_call()
"""


def _visit(url: str, process: subprocess.Popen[str]) -> None:
    """Get a page from a server that may still be starting."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        assert process.poll() is None, process.stderr.read()
        with contextlib.suppress(OSError):
            return urllib.request.urlopen(url, timeout=5).close()
        time.sleep(0.1)
    pytest.fail(f"{url} does not answer")


ENDLESS = """
while True:
    try:
        call()
    except Exception:
        continue
"""


def test_a_loop_ends_at_its_budget_with_no_code_change(provider, collector):
    """A program that swallows every error ends with ours at the first call its budget has no room for."""
    limits = {"OTEL_COST_BUDGET_USD": "0.07", "OTEL_COST_GUARD_BOUND": "strict"}
    finished = run(ENDLESS, provider, collector, **limits)
    assert finished.returncode == 1
    assert "otel_cost.errors.BudgetExceeded: execution" in finished.stderr
    assert "may spend $0.0700" in finished.stderr
    sent = provider.count()
    assert sent > 1
    assert [span.cost_usd for span in collector.counted()] == [CALL_USD] * sent
    (root,) = [span for span in collector.spans if not span.parent_id]
    assert root.attributes["error.type"] == "BudgetExceeded"
    assert Decimal(root.attributes["otel_cost.execution.cost_usd"]) == sent * CALL_USD


def test_a_guard_that_is_off_stops_nothing(provider, collector):
    """OTEL_COST_GUARD=off leaves every client as it is."""
    code = "for _ in range(3): call()"
    finished = run(code, provider, collector, OTEL_COST_BUDGET_USD="0", OTEL_COST_GUARD="off")
    assert finished.returncode == 0, finished.stderr
    assert provider.count() == 3


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"OTEL_COST_BUDGET_USD": "$0.25"}, "OTEL_COST_BUDGET_USD='$0.25' is not a number of USD"),
        (
            {"OTEL_COST_BUDGET_USD": "0.25", "OTEL_COST_GUARD_LEDGER": "shraed"},
            "OTEL_COST_GUARD_LEDGER='shraed' is none of the choices",
        ),
        ({"OTEL_COST_POLICY": "/no/such/policy.yaml"}, "/no/such/policy.yaml: cannot be read"),
        ({"OTEL_COST_BUDGET_USD": "5", "OTEL_COST_PRICES": "/no/such/prices.yaml"}, "/no/such/prices.yaml"),
    ],
)
def test_a_wrong_policy_keeps_the_program_from_starting(provider, collector, wrong, told):
    """Limits that cannot be read are not taken for no limits: nothing runs, and one paragraph says why."""
    finished = run("call(); print('ran')", provider, collector, **wrong)
    assert (finished.returncode, finished.stdout, provider.count()) == (2, "", 0)
    assert finished.stderr.startswith("otel-cost: -c was not started")
    assert told in finished.stderr
    assert "Traceback" not in finished.stderr


def test_a_wrong_policy_ends_a_program_that_sets_itself_up(provider, collector):
    """A program that calls OpenTelemetry's `initialize` ends by an exit that it can still clean up after."""
    code = """
    from opentelemetry.instrumentation.auto_instrumentation import initialize
    try:
        initialize()
        print("ran")
    finally:
        print("cleaned up")
    """
    program = Program(code, instrumented=False)
    finished = program.run(send_to(collector), {"OTEL_COST_BUDGET_USD": "$0.25"})
    assert (finished.returncode, finished.stdout) == (2, "cleaned up\n")


def test_limits_hold_where_nothing_can_be_measured(provider, collector):
    """A mistake in a setting of spans is said, and takes no limit with it."""
    wrong = {"OTEL_COST_INSTRUMENTORS": "offical", "OTEL_COST_MAX_EXECUTIONS": "many"}
    finished = run("call()", provider, collector, OTEL_COST_BUDGET_USD="0", **wrong)
    assert "OTEL_COST_MAX_EXECUTIONS='many' is not a whole number" in finished.stderr
    assert "BudgetExceeded" in finished.stderr
    assert provider.count() == 0


def test_a_misspelt_limit_is_named(collector):
    """A variable that nothing reads is most likely a limit that does not hold."""
    finished = run_spans("call()", collector, OTEL_COST_BUDGT_USD="0.25")
    told = "OTEL_COST_BUDGT_USD is not read by anything; did you mean OTEL_COST_BUDGET_USD?"
    assert told in finished.stderr


def test_what_is_turned_off_is_not_read(collector):
    """With OTEL_COST_ENABLED=false the program runs as it is, whatever else the settings say."""
    wrong = {"OTEL_COST_BUDGET_USD": "$0.25", "OTEL_COST_ENABLED": "false"}
    finished = run_spans("print('ran')", collector, **wrong)
    assert (finished.returncode, finished.stdout) == (0, "ran\n")
