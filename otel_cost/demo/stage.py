"""Plays the demo: a store of its own, the pipeline, the agents, recorded traces, the reports, the check."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from otel_cost.demo.scenario import RUNS, Run
from otel_cost.errors import ConfigError, OtelCostError
from otel_cost.fake_provider import FakeProvider

PACKAGE = Path(__file__).resolve().parent.parent
RECORDED = (
    "trail/traces.otlp.jsonl.xz",
    "framework_traces/framework_traces.otlp.jsonl",
    "replayed_spans/*.otlp.jsonl.xz",
)
"""Recorded traces that the demo imports where they are at hand."""
HTTP_PORT, GRPC_PORT = 4318, 4317
LONG_AGO = "1000d"
"""Recorded traces are old; reports of the demo look back further than they do by default."""


class DemoError(OtelCostError):
    """A step of the demo failed, or the dollars are not the ones worked out by hand."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Where a demo plays.

    Attributes:
        home: Directory of the store and its log.
        say: Shows a line of text.
    """

    home: Path
    say: Callable[[str], None]

    @property
    def store(self) -> str:
        """The DSN of the demo's store."""
        return f"chdb://{self.home / 'store'}"

    def otel_cost(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command of this package on the demo's store and return what it says.

        Raises:
            DemoError: It failed.
        """
        code = "from otel_cost.cli.main import main; main()"
        environ = _plain_environment() | {"OTEL_COST_STORE": self.store} | environment
        finished = subprocess.run(  # noqa: S603 (our own command line, no shell)
            [sys.executable, "-c", code, *arguments], env=environ, text=True, capture_output=True, check=False
        )
        if finished.returncode:
            words = (finished.stderr or finished.stdout).strip()[-2000:]
            raise DemoError(f"`otel-cost {' '.join(arguments)}` failed with {finished.returncode}: {words}")
        return finished

    def show(self, *arguments: str) -> None:
        """Run a report and show it."""
        self.say(f"\n$ otel-cost {' '.join(arguments)}")
        self.say(self.otel_cost(*arguments, COLUMNS="120").stdout.rstrip())

    def ask(self, *arguments: str) -> Any:
        """Run a report and return its JSON."""
        return json.loads(self.otel_cost(*arguments, "--json").stdout)


def perform(home: Path, *, keep: bool, data: Path | None, say: Callable[[str], None]) -> None:
    """Run the whole demo; leave the pipeline running.

    Args:
        home: Directory of the demo, emptied first unless `keep`.
        data: Directory of recorded traces, None to look beside the checkout.

    Raises:
        DemoError: A step failed, or the dollars differ.
        ConfigError: Something the demo needs is not installed.
    """
    started_s = time.monotonic()
    _check_frameworks()
    stage = Stage(home, say)
    stop(stage)
    if not keep:
        shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True, exist_ok=True)
    url = _start_pipeline(stage)
    _run_agents(stage, url)
    _import_recorded(stage, data)
    for what in ("executions", "models", "users"):
        stage.show("top", what, "--since", LONG_AGO, "--limit", "8")
    _show_dearest_run(stage)
    stage.show("decisions", "--since", LONG_AGO, "--limit", "3")
    _check_dollars(stage)
    _say_what_next(stage, url, time.monotonic() - started_s)


def stop(stage: Stage) -> None:
    """Stop the pipeline of an earlier demo, if one runs."""
    if (stage.home / "store").exists():
        stage.otel_cost("down")


def _check_frameworks() -> None:
    missing = sorted({name for run in RUNS for name in run.needs if find_spec(name) is None})
    if missing:
        raise ConfigError(
            f"the demo's agents need {', '.join(missing)}; pip install 'otel-cost[demo]', or make demo"
        )


def _plain_environment() -> dict[str, str]:
    """Return this process's environment without what would send spans or model calls elsewhere."""
    loopback = "127.0.0.1,localhost"
    kept = {
        name: text
        for name, text in os.environ.items()
        if not name.startswith(("OTEL_", "OPENAI_", "ANTHROPIC_", "TRACEPARENT", "BAGGAGE", "LOGFIRE_"))
    }
    return kept | {"NO_PROXY": loopback, "no_proxy": loopback}


def _start_pipeline(stage: Stage) -> str:
    """Start `otel-cost up` in the background and return its URL."""
    port, grpc_port = _port(HTTP_PORT), _port(GRPC_PORT)
    stage.say(f"$ otel-cost up --background   # OTLP on 127.0.0.1:{port}, spans in {stage.home / 'store'}")
    http, grpc = f"127.0.0.1:{port}", f"127.0.0.1:{grpc_port}"
    stage.otel_cost("up", "--background", "--http", http, "--grpc", grpc)
    return f"http://{http}"


def _port(preferred: int) -> int:
    """Return a port nobody listens on, the usual one where it is free."""
    for port in (preferred, 0):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise DemoError("no port is free on 127.0.0.1; stop a program that listens there")


def _run_agents(stage: Stage, url: str) -> None:
    """Run the agents side by side, each against a provider of its own that bills by its script."""
    running = []
    batch = uuid.uuid4().hex[:8]
    for run in RUNS:
        provider = FakeProvider(run.script, id_prefix=f"{batch}-{run.user}")
        running.append((run, provider.__enter__(), _start_agent(stage, run, provider, url)))
    for run, provider, process in running:
        printed, complained = process.communicate(timeout=120)
        provider.__exit__()
        is_as_planned = bool(process.returncode) == bool(run.budget_usd)
        if not is_as_planned or provider.count() != len(run.bills) + run.unpriced_calls:
            raise DemoError(
                f"{run.program} ended with {process.returncode} after {provider.count()} model calls: "
                f"{complained.strip()[-2000:]}"
            )
        limit = f"OTEL_COST_BUDGET_USD={run.budget_usd} " if run.budget_usd else ""
        last_words = _refusal(complained) if run.budget_usd else printed.strip()
        stage.say(
            f"\n$ {limit}otel-cost run --user {run.user} --team {run.team} -- python examples/{run.program}"
            f"   # {run.framework}, {provider.count()} model calls\n{last_words}"
        )


def _refusal(complained: str) -> str:
    """Return the last words of a process that was stopped."""
    told = [line for line in complained.splitlines() if "BudgetExceeded: " in line]
    if not told:
        raise DemoError(
            f"an agent was stopped by something else than its budget: {complained.strip()[-2000:]}"
        )
    return told[-1]


def _start_agent(stage: Stage, run: Run, provider: FakeProvider, url: str) -> subprocess.Popen[str]:
    environ = _plain_environment() | provider.environment | {"OTEL_EXPORTER_OTLP_ENDPOINT": url}
    if run.budget_usd:
        environ["OTEL_COST_BUDGET_USD"] = run.budget_usd
    if "agents" in run.needs:
        # With a key the Agents SDK would upload its traces to OpenAI.
        environ.pop("OPENAI_API_KEY")
    payer = ["--user", run.user, "--team", run.team]
    code = "from otel_cost.cli.main import main; main()"
    command = [sys.executable, "-c", code, "run", *payer, "--", sys.executable, str(_example(run.program))]
    return subprocess.Popen(  # noqa: S603 (our own examples, no shell)
        command, env=environ, cwd=stage.home, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def _example(name: str) -> Path:
    """Return an example's path: in the installed package, else in the checkout."""
    for folder in (PACKAGE / "examples", PACKAGE.parent / "examples"):
        if (folder / name).is_file():
            return folder / name
    raise ConfigError(f"the example {name} is not at {PACKAGE / 'examples'}; install otel-cost again")


def _import_recorded(stage: Stage, data: Path | None) -> None:
    """Import the recorded traces that are at hand, and say which are not."""
    folder = data or PACKAGE.parent.parent / "shared" / "data"
    found = {pattern: sorted(folder.glob(pattern)) for pattern in RECORDED}
    for pattern in (pattern for pattern, files in found.items() if not files):
        stage.say(f"\nrecorded traces {pattern} are not at {folder}; the demo goes on without them")
    files = [str(file) for some in found.values() for file in some]
    if files:
        stage.say("\n$ otel-cost import " + " ".join(pattern for pattern, some in found.items() if some))
        finished = stage.otel_cost("import", *files)
        stage.say((finished.stdout or finished.stderr).strip())


def _show_dearest_run(stage: Stage) -> None:
    """Show the tree of the dearest run: a sub-agent, tools, cache writes, and a model without a price."""
    rows = stage.ask("top", "executions", "--since", LONG_AGO, "--limit", "1000")
    dearest = max(RUNS, key=lambda run: run.cost_usd)
    mine = [row for row in _rows(rows) if row.get("user_id") == dearest.user]
    if not mine:
        raise DemoError(f"no execution of {dearest.user} is among the {len(_rows(rows))} in the store")
    stage.show("trace", str(mine[0]["trace_id"]))


def _check_dollars(stage: Stage) -> None:
    """Compare what the store says each user spent with what was worked out by hand."""
    rows = _rows(stage.ask("top", "users", "--since", LONG_AGO, "--limit", "1000"))
    measured = {str(row.get("user_id")): row for row in rows}
    stage.say("\nworked out by hand from the bills of the provider:")
    for run in RUNS:
        found = measured.get(run.user, {})
        amount = found.get("cost_usd")
        if amount is None or Decimal(str(amount)) != run.cost_usd:
            raise DemoError(
                f"{run.user} spent ${run.cost_usd} by hand, but the store says {amount}: {json.dumps(found)}"
            )
        remark = f", {run.unpriced_calls} call without a price" if run.unpriced_calls else ""
        remark += f", stopped below ${run.budget_usd}" if run.budget_usd else ""
        stage.say(f"  {run.user:6} ${run.cost_usd.normalize():f}  = the store, to the last digit{remark}")


def _rows(answer: Any) -> list[Mapping[str, Any]]:
    """Return the rows of a report's JSON, bare or under `rows`."""
    rows: Sequence[Mapping[str, Any]] = answer["rows"] if isinstance(answer, dict) else answer
    return list(rows)


def _command() -> str:
    """Return how this package's command is typed here: by its path where it is not on PATH."""
    if shutil.which("otel-cost"):
        return "otel-cost"
    beside = Path(sys.executable).with_name("otel-cost")
    return str(beside.relative_to(Path.cwd()) if beside.is_relative_to(Path.cwd()) else beside)


def _say_what_next(stage: Stage, url: str, took_s: float) -> None:
    command = _command()
    where = "" if stage.home == Path(".demo").resolve() else f" --home {stage.home}"
    stage.say(
        f"\nThe demo took {took_s:.0f} s and leaves the pipeline running. Look at it with\n"
        f"  export OTEL_COST_STORE={stage.store}\n"
        f"  {command} top models --since {LONG_AGO}\n"
        f"  {command} top teams --since {LONG_AGO}\n"
        "and send it your own agent:\n"
        f"  OTEL_EXPORTER_OTLP_ENDPOINT={url} {command} run --user you -- python agent.py\n"
        f"Stop it with `{command} demo --stop{where}`."
    )
