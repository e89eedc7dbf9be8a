"""Programs that run their calls in greenlets of gevent and eventlet."""

from __future__ import annotations

import pytest

from otel_cost.fake_provider import FakeProvider, Reply
from otel_cost.usage import Usage
from tests.agents.harness import Program, environment, send_to

GEVENT = """
from gevent import monkey; monkey.patch_all()
import gevent, gevent.pool
def together():
    gevent.joinall([gevent.spawn(call) for _ in range(5)])
    gevent.pool.Pool(2).map(lambda _: call(), range(5))
"""
EVENTLET = """
import eventlet; eventlet.monkey_patch()
def together():
    for each in [eventlet.spawn(call) for _ in range(5)]: each.wait()
    list(eventlet.GreenPool(2).imap(lambda _: call(), range(5)))
"""
# A call is a dime: gpt-4o takes 10 USD per million output tokens (https://openai.com/api/pricing, 2026-11).
CALLS = """
import sys, requests, otel_cost
CHAT = {"model": "gpt-4o", "max_tokens": 10_000, "messages": [{"role": "user", "content": "hello"}]}
def call():
    try:
        requests.post(sys.argv[1] + "/chat/completions", json=CHAT).raise_for_status()
    except otel_cost.BudgetExceeded:
        pass
"""
BLOCK = """
with otel_cost.execution("run", budget_usd="0.25"):
    together()
"""
SERVER = {
    GEVENT: """
from gevent.pywsgi import WSGIServer
server = WSGIServer(("127.0.0.1", 0), lambda *given: handle(*given), log=None)
gevent.spawn_later(0.1, lambda: ask(server.server_port))
server.serve_forever()
""",
    EVENTLET: """
from eventlet import wsgi
socket = eventlet.listen(("127.0.0.1", 0))
eventlet.spawn_after(0.1, lambda: ask(socket.getsockname()[1]))
wsgi.server(socket, lambda *given: handle(*given), log_output=False)
""",
}
HANDLER = """
import os
def handle(environ, start_response):
    call()
    start_response("200 OK", [])
    return [b"ok"]
def ask(port):
    for _ in range(4):
        requests.get(f"http://127.0.0.1:{port}/").raise_for_status()
    os._exit(0)
"""


@pytest.fixture(scope="module")
def python() -> str:
    """An interpreter that has both."""
    return environment("greenlets", ["gevent", "eventlet", "requests"])


@pytest.fixture
def provider():
    """A provider that bills a dime, after a moment."""
    with FakeProvider(Reply("one", usage=Usage(output_tokens=10_000), delay_s=0.05)) as made:
        yield made


@pytest.mark.parametrize("library", [GEVENT, EVENTLET], ids=["gevent", "eventlet"])
def test_greenlets_spend_the_budget_they_are_spawned_in(python, provider, library):
    """Ten of them make the two calls that a quarter pays for, single or in a pool."""
    program = Program(library + CALLS + BLOCK, [provider.openai_url], python=python, instrumented=False)
    finished = program.run()
    assert finished.returncode == 0, finished.stderr
    assert provider.count() == 2


@pytest.mark.parametrize("library", [GEVENT, EVENTLET], ids=["gevent", "eventlet"])
def test_requests_to_a_server_in_greenlets_are_executions(python, provider, collector, library):
    """They do not spend the budget of the script that serves them."""
    program = Program(library + CALLS + HANDLER + SERVER[library], [provider.openai_url], python=python)
    finished = program.run(send_to(collector), {"OTEL_COST_BUDGET_USD": "0.15"})
    assert finished.returncode == 0, finished.stderr
    assert provider.count() == 4
