"""Zero-code set-up on other Pythons, the oldest OpenTelemetry, and servers that this environment has not."""

from __future__ import annotations

import signal
import subprocess
from decimal import Decimal

import pytest

from otel_cost.fake_provider import FakeProvider, Reply
from otel_cost.usage import Usage
from tests.agents.harness import Program, environment, interpreter, send_to
from tests.agents.test_coexistence import CALLS, OLDEST, USAGE, check_all_calls
from tests.agents.test_double_emitters import check
from tests.agents.test_zero_code import BOTH, CALL_USD, SPAN, _visit
from tests.servers import free_port

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

CURRENT = ["anthropic", "openai", "otel-cost[instrument]"]
CLOUDS = ["boto3", "google-genai", "otel-cost[instrument]"]
SERVERS = ["aiohttp", "flask", "gunicorn", "hypercorn", "otel-cost[instrument]", "starlette", "waitress"]

WSGI = """
def app(environ, start_response):
    call()
    start_response("200 OK", [("content-type", "text/plain")])
    return [b"ok"]
"""
ASGI = """
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown": return
    call()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})
"""
STARTS = {
    "waitress": WSGI + "import waitress; waitress.serve(app, port=PORT)",
    "flask": "import flask\nweb = flask.Flask('x')\n@web.get('/')\ndef answer():\n    call(); return 'ok'\n"
    "web.run(port=PORT)",
    "wsgiref": WSGI
    + "from wsgiref.simple_server import make_server\nmake_server('', PORT, app).serve_forever()",
    "hypercorn": ASGI
    + "import asyncio, hypercorn.asyncio, hypercorn.config\nconfig = hypercorn.config.Config()\n"
    "config.bind = [f'127.0.0.1:{PORT}']\nasyncio.run(hypercorn.asyncio.serve(app, config))",
    "aiohttp": "from aiohttp import web\nasync def answer(request):\n"
    "    call(); return web.Response(text='ok')\n"
    "app = web.Application()\napp.router.add_get('/', answer)\nweb.run_app(app, port=PORT)",
}


@pytest.fixture
def provider():
    """A provider that bills the same usage for every call."""
    with FakeProvider(Reply("yes", usage=USAGE)) as provider:
        yield provider


@pytest.mark.parametrize("version", ["3.10", "3.12", "3.13"])
def test_other_pythons(version, provider, collector):
    """Calls of two SDKs, of a thread and of a forked worker arrive and are one execution."""
    python = environment(f"python-{version}", CURRENT, python=interpreter(version))
    code = f"""{SPAN}{CALLS}
import multiprocessing, threading
thread = threading.Thread(target=call); thread.start(); thread.join()
worker = multiprocessing.get_context("fork").Process(target=call); worker.start(); worker.join()
"""
    finished = Program(code, python=python).run(
        provider.environment, send_to(collector), {"PYTHONWARNINGS": "ignore"}
    )
    assert finished.returncode == 0, finished.stderr
    costs = sorted(span.cost_usd for span in collector.counted())
    # The hand-made spans and the three OpenAI calls cost the same; the Anthropic call $0.00438.
    assert costs == [CALL_USD] * 5 + [Decimal("0.00438")]
    assert len({span.trace_id for span in collector.spans}) == 1


@pytest.mark.parametrize("version", ["3.10", "3.12", "3.13"])
def test_sigterm_on_other_pythons(version, collector):
    """A process told to stop sends what it holds and dies of the signal."""
    python = environment(f"python-{version}", CURRENT, python=interpreter(version))
    code = SPAN + "call(); print('ready', flush=True); import time; time.sleep(60)"
    settings = send_to(collector) | {"OTEL_BSP_SCHEDULE_DELAY": "60000"}
    with Program(code, python=python).start(settings) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == -signal.SIGTERM
    assert [span.cost_usd for span in collector.counted()] == [CALL_USD]


def test_zero_code_on_the_oldest_supported_sdk(provider, collector):
    """OpenTelemetry 1.39 without a distribution, with OpenInference's instrumentors found and enabled."""
    python = environment("sdk-1.39", OLDEST)
    finished = Program(CALLS, python=python).run(provider.environment, send_to(collector))
    assert finished.returncode == 0, finished.stderr
    check_all_calls(provider, collector)
    assert {span.scope.split(".")[0] for span in collector.counted()} == {"openinference"}


GEMINI = """
from google import genai
client = genai.Client()
client.models.generate_content(model="gemini-2.5-flash", contents="hi")
for part in client.models.generate_content_stream(model="gemini-2.5-flash", contents="hi"): pass
"""
BEDROCK = """
import boto3
client = boto3.client("bedrock-runtime")
asked = {"modelId": "global.anthropic.claude-sonnet-4-5-20250929-v1:0"}
asked["messages"] = [{"role": "user", "content": [{"text": "hi"}]}]
client.converse(**asked)
for event in client.converse_stream(**asked)["stream"]: pass
"""


def test_google_genai(collector):
    """Version 3, which the official instrumentor works with but does not declare; streamed and not.

    gemini-2.5-flash, per million tokens: $0.30 input, $0.03 cached, $2.50 output (genai-prices 0.2.3, from
    https://ai.google.dev/gemini-api/docs/pricing). 400 * 0.30 + 600 * 0.03 + 200 * 2.50 = 638 millionths.
    """
    check(
        Program(GEMINI, python=environment("clouds", CLOUDS)),
        lambda call: Reply("a b", usage=USAGE),
        collector,
        "0.001276",
    )


def test_bedrock(collector):
    """Converse counts input without cached tokens; streamed and not.

    Claude Sonnet 4.5 through Bedrock's global endpoint, per million tokens: $3 input, $0.30 cache read, $3.75
    cache write, $15 output (genai-prices 0.2.3, from https://aws.amazon.com/bedrock/pricing/).
    400 * 3 + 600 * 0.30 + 100 * 3.75 + 200 * 15 = 4,755 millionths a call.
    """
    usage = Usage(input_tokens=400, cache_read_tokens=600, cache_write_tokens=100, output_tokens=200)
    check(
        Program(BEDROCK, python=environment("clouds", CLOUDS)),
        lambda call: Reply("a b", usage=usage),
        collector,
        "0.00951",
    )


@pytest.mark.parametrize("server", sorted(STARTS))
def test_scripts_that_become_servers(server, collector, tmp_path):
    """Whatever serves, each request's calls are a trace of their own."""
    port = free_port()
    script = tmp_path / "serve_it.py"
    script.write_text(SPAN.replace("call", "model_call") + BOTH + STARTS[server].replace("PORT", str(port)))
    program = Program(script, python=environment("servers", SERVERS))
    with program.start(send_to(collector), {"PYTHONWARNINGS": "ignore"}) as process:
        _check_two_requests(port, process, collector)


def test_gunicorn(collector, tmp_path):
    """Workers forked by gunicorn start a trace per request and send it when they are stopped."""
    port = free_port()
    (tmp_path / "served.py").write_text(SPAN.replace("call", "model_call") + BOTH + WSGI)
    python = environment("servers", SERVERS)
    program = Program("", python=python)
    command = [python, "-m", "gunicorn", "--chdir", str(tmp_path), "--workers", "2"]
    environ = program.environ(send_to(collector), {"PYTHONWARNINGS": "ignore"})
    with subprocess.Popen(
        [*command, "--bind", f"127.0.0.1:{port}", "served:app"],
        env=environ,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        _check_two_requests(port, process, collector)


def _check_two_requests(port, process, collector):
    for _ in range(2):
        _visit(f"http://127.0.0.1:{port}/", process)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)
    requests = [span for span in collector.spans if span.name == "request"]
    assert [span.parent_id for span in requests] == ["", ""]
    calls = collector.counted()
    assert len(calls) == 4
    assert {span.trace_id for span in calls} == {span.trace_id for span in requests}
