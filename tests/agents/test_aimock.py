"""The same agent against a provider somebody else wrote, so that ours cannot hide a fault in how it speaks.

aimock (https://github.com/CopilotKit/aimock) speaks the protocol independently. Of scripted usage it passes
the totals on and drops cached tokens, which is why the other tests use a provider of our own.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from tests.agents.harness import Program, send_to
from tests.agents.test_double_emitters import measured, spent
from tests.data import ROOT
from tests.servers import free_port

PACKAGE = "@copilotkit/aimock@1.43.0"
HOME = ROOT / ".cache" / "aimock"
SCRIPT = {
    "fixtures": [
        {
            "match": {"userMessage": "umbrella", "hasToolResult": True},
            "response": {
                "content": "Yes, it rains in Bergen.",
                "usage": {"prompt_tokens": 700, "completion_tokens": 30, "total_tokens": 730},
            },
        },
        {
            "match": {"userMessage": "umbrella", "hasToolResult": False},
            "response": {
                "toolCalls": [{"name": "weather", "arguments": '{"city": "Bergen"}'}],
                "usage": {"prompt_tokens": 400, "completion_tokens": 20, "total_tokens": 420},
            },
        },
    ]
}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture
def aimock(tmp_path: Path) -> Iterator[str]:
    """The URL of an aimock that answers by `SCRIPT`."""
    fixtures = tmp_path / "fixtures.json"
    fixtures.write_text(json.dumps(SCRIPT))
    port = free_port()
    command = ["node", str(_program()), "--port", str(port), "--fixtures", str(fixtures), "--strict"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        url = f"http://127.0.0.1:{port}"
        try:
            _wait(url, process)
            yield url
        finally:
            process.terminate()


def _program() -> Path:
    """Return aimock's program, installed once, or skip."""
    if not shutil.which("npm") or not shutil.which("node"):
        pytest.skip("aimock needs Node: neither npm nor node is on PATH")
    program = HOME / "node_modules" / "@copilotkit" / "aimock" / "dist" / "cli.js"
    if not program.exists():
        HOME.mkdir(parents=True, exist_ok=True)
        command = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(HOME), PACKAGE]
        installed = subprocess.run(command, capture_output=True, text=True, check=False)
        if installed.returncode:
            pytest.skip(f"npm could not install {PACKAGE}: {installed.stderr.strip()[-300:]}")
    return program


def _wait(url: str, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if process.poll() is not None:
            pytest.fail(f"aimock ended at once: {process.stderr.read()[-500:]}")
        try:
            urllib.request.urlopen(f"{url}/health", timeout=1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    pytest.fail("aimock does not answer")


def test_an_agent_against_aimock(aimock, collector):
    """A streamed tool call and a streamed answer: tokens and dollars are the scripted ones.

    gpt-4o-mini, per million tokens: $0.15 input, $0.60 output (genai-prices 0.2.3, OpenAI's price page).
    400 * 0.15 + 20 * 0.60 = 72 and 700 * 0.15 + 30 * 0.60 = 123, together 195 millionths.
    """
    environment = {"OPENAI_BASE_URL": f"{aimock}/v1", "OPENAI_API_KEY": "none"}
    finished = Program(ROOT / "examples" / "langgraph_agent.py").run(environment, send_to(collector))
    assert finished.stdout == "Yes, it rains in Bergen.\n", finished.stderr
    usage = measured(collector)
    assert (usage.total_input_tokens, usage.total_output_tokens) == (1100, 50)
    assert spent(collector) == Decimal("0.000195")
