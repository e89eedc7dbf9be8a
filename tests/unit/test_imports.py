"""The agent plane stays light: it never loads what the server plane needs."""

from __future__ import annotations

import json
import subprocess
import sys

import otel_cost

AGENT_PLANE = [
    "accounting",
    "attributes",
    "attribution",
    "budgets",
    "charging",
    "config",
    "containment",
    "documents",
    "emitters",
    "errors",
    "executions",
    "http",
    "instrument",
    "metrics",
    "money",
    "policy_file",
    "policy_report",
    "pricing",
    "processor",
    "usage",
]
SERVER_ONLY = {
    "chdb",
    "clickhouse_connect",
    "otel_cost.cli",
    "otel_cost.server",
    "otel_cost.store",
    "pydantic",
    "rich",
    "starlette",
    "typer",
    "uvicorn",
}


def _loaded(code: str) -> set[str]:
    script = f"import sys, json\n{code}\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


def test_agent_plane_does_not_import_the_server_plane() -> None:
    """Importing everything an agent uses loads nothing of the server."""
    code = "\n".join(f"import otel_cost.{name}" for name in AGENT_PLANE)
    assert _loaded(code) & SERVER_ONLY == set()


def test_importing_the_package_loads_no_sdk() -> None:
    """`import otel_cost` alone is nearly free; names load what they need."""
    loaded = _loaded("import otel_cost")
    assert not any(name.startswith("opentelemetry") for name in loaded)


def test_every_public_name_is_there() -> None:
    """`__all__` and what can be imported are the same."""
    for name in otel_cost.__all__:
        assert getattr(otel_cost, name) is not None
    assert set(otel_cost.__all__) == set(otel_cost._HOME)
    assert len(otel_cost.__all__) <= 16
