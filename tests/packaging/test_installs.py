"""What people install: the wheel alone, the oldest dependencies allowed, and other Python versions."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.data import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

PRICE_A_CALL = """
import otel_cost
book = otel_cost.PriceBook.load()
usage = otel_cost.Usage(input_tokens=1000, output_tokens=200)
print(book.price(usage, model="gpt-4o-mini", at=1_780_315_200 * 10**9).cost_usd)
"""
UV = Path(sys.executable).with_name("uv")
CORE_TESTS = ["tests/unit", "tests/conformance", "tests/replayed"]


def run(*command: str | Path, **environment: str) -> str:
    """Run a command in the checkout; its output is shown when it fails."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith("COV")}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=kept | environment,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def uv(*arguments: str | Path) -> str:
    """Run uv, the installer of the checkout's own environment."""
    return run(UV, *arguments)


def environment(path: Path, python: str | Path = sys.executable) -> Path:
    """Make an environment and return its python."""
    uv("venv", "--quiet", "--python", python, path)
    return path / "bin" / "python"


def python_of(version: str) -> Path | None:
    """Return an interpreter of a version: pyenv's, whose commands on PATH are no interpreters, or PATH's."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    kept = sorted((pyenv / "versions").glob(f"{version}.*/bin/python"))
    if kept:
        return kept[-1]
    found = shutil.which(f"python{version}")
    return Path(found) if found else None


def test_the_wheel_is_the_agent_plane_and_carries_its_data(tmp_path: Path) -> None:
    """The wheel installs with its few dependencies, prices a call, and holds the SQL files."""
    uv("build", "--quiet", "--wheel", "--out-dir", tmp_path)
    wheel = next(tmp_path.glob("*.whl"))
    names = zipfile.ZipFile(wheel).namelist()
    assert any(name.startswith("otel_cost/clickhouse/migrations/") for name in names)
    assert any(name.startswith("otel_cost/data/") for name in names)
    assert not any(name.startswith(("tests/", "benchmarks/")) for name in names)
    python = environment(tmp_path / "env")
    uv("pip", "install", "--quiet", "--python", python, wheel)
    assert run(python, "-I", "-c", PRICE_A_CALL).strip() == "0.000270000000"
    installed = uv("pip", "list", "--quiet", "--python", python)
    assert "chdb" not in installed
    assert "starlette" not in installed


def test_the_server_extra_finds_its_sql_in_the_wheel(tmp_path: Path) -> None:
    """Installed from the wheel, away from the checkout, an embedded store is made and migrated."""
    uv("build", "--quiet", "--wheel", "--out-dir", tmp_path)
    python = environment(tmp_path / "env")
    wheel = next(tmp_path.glob("*.whl"))
    uv("pip", "install", "--quiet", "--python", python, f"otel-cost[server] @ file://{wheel}")
    command = python.with_name("otel-cost")
    run(command, "migrate", "--dsn", f"chdb://{tmp_path}/store")


def test_the_oldest_dependencies_allowed(tmp_path: Path) -> None:
    """With the lowest version of every direct dependency the core still passes its tests."""
    python = environment(tmp_path / "env")
    uv("pip", "install", "--quiet", "--python", python, "--resolution", "lowest-direct", "-e", ".")
    uv(
        "pip",
        "install",
        "--quiet",
        "--python",
        python,
        "hypothesis",
        "pytest",
        "pytest-timeout",
        "pytest-randomly",
    )
    assert "passed" in run(python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *CORE_TESTS)


@pytest.mark.parametrize("version", ["3.10", "3.12", "3.13"])
def test_other_python_versions(tmp_path: Path, version: str) -> None:
    """The core passes its tests on every supported Python that this machine has."""
    interpreter = python_of(version)
    if interpreter is None:
        pytest.skip(f"Python {version} is not on this machine")
    python = environment(tmp_path / "env", interpreter)
    uv("pip", "install", "--quiet", "--python", python, "-e", ".")
    uv(
        "pip",
        "install",
        "--quiet",
        "--python",
        python,
        "hypothesis",
        "pytest",
        "pytest-timeout",
        "pytest-randomly",
    )
    assert "passed" in run(python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *CORE_TESTS)
