"""Processes of one execution share its budget: real processes, a provider that counts requests."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from decimal import Decimal
from functools import partial
from multiprocessing import forkserver
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import context, propagate, trace

from otel_cost import execution, process
from otel_cost.budgets import Policy
from otel_cost.errors import BudgetExceeded
from otel_cost.fake_provider import FakeProvider, Reply
from otel_cost.guard import Guard, children, clients
from otel_cost.ledger.memory import MemoryLedger
from otel_cost.ledger.shared import SharedLedger
from otel_cost.ledger.sqlite import SqliteLedger
from otel_cost.money import PICO
from otel_cost.pricing import PriceBook
from otel_cost.usage import Usage
from tests.data import ROOT
from tests.guard import workers
from tests.waiting import until

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]
BOOK = PriceBook.load()
DIME = PICO // 10
SCOPE = "execution:run"
METHODS = ["fork", "spawn", "forkserver"]


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    """A provider that bills a dime a call, after a moment."""
    with FakeProvider(Reply("one", usage=Usage(output_tokens=workers.OUTPUT), delay_s=0.05)) as made:
        yield made


@pytest.fixture
def guard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Guard]:
    """A guard in force whose ledger's file, once there is one, is the test's own."""
    tmp_path.chmod(0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("OTEL_COST_GUARD_MAX_WAIT_S", "30")
    made = Guard(Policy.load(environ={}, max_wait_s=30), SharedLedger(), BOOK)
    clients.install(made)
    yield made
    clients.uninstall()
    assert made.ledger.open_holds == 0  # type: ignore[attr-defined]


def spent(guard: Guard, scope: str = SCOPE) -> int:
    """Return what an execution spent, in dimes, with nothing left in flight."""
    balance = guard.ledger.balance(scope)
    assert balance.reserved_picousd == 0
    assert balance.settled_picousd % DIME == 0
    return balance.settled_picousd // DIME


@pytest.mark.parametrize("method", METHODS)
def test_eight_processes_spend_one_budget(method: str, guard: Guard, provider: FakeProvider) -> None:
    """8 x 25 calls of a dime want a dollar; the tenth may cost more by its input, so nine are sent."""
    made = multiprocessing.get_context(method)
    with execution("run", budget_usd="1.00"):
        running = [made.Process(target=workers.call, args=(provider.openai_url, 25)) for _ in range(8)]
        for process in running:
            process.start()
        for process in running:
            process.join()
    assert [process.exitcode for process in running] == [0] * 8
    assert spent(guard) == provider.count() == 9


@pytest.mark.parametrize("method", METHODS)
def test_a_pool_of_processes_spends_one_budget(method: str, guard: Guard, provider: FakeProvider) -> None:
    """Also with tasks of the parent itself in between, and with workers that outlive the execution."""
    made = multiprocessing.get_context(method)
    with ProcessPoolExecutor(4, mp_context=made) as pool:
        with execution("run", budget_usd="1.00"):
            waiting = [pool.submit(workers.call, provider.openai_url, 5) for _ in range(8)]
            own = workers.call(provider.openai_url, 5)
            assert own + sum(each.result() for each in waiting) == 9
        with execution("next", budget_usd="0.35"):
            assert sum(pool.map(workers.call, [provider.openai_url] * 5)) == 3
    assert spent(guard) == 9
    assert spent(guard, "execution:next") == 3
    assert provider.count() == 12


@pytest.mark.parametrize("method", METHODS)
def test_a_task_of_a_pool_belongs_to_whoever_submits_it(method: str, guard: Guard) -> None:
    """The worker is the same; the execution and the payer are those around `submit`, also without a limit."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context(method)) as pool:
        with execution("one", budget_usd=1, team="search"):
            first = pool.submit(workers.who).result()
        with execution("two", team="ads", propagate=False):
            second = pool.submit(workers.who).result()
    assert first[1:] == ("one", "search")
    assert second == (first[0], "two", "ads")


POOLS: dict[str, Callable[[], Any]] = {
    "threads": lambda: ThreadPool(2),
    **{method: partial(multiprocessing.get_context(method).Pool, 2) for method in METHODS},
}
WAYS: dict[str, Callable[[Any, str], object]] = {
    "map": lambda pool, url: pool.map(workers.pay, [url] * 4, chunksize=1),
    "map in chunks": lambda pool, url: pool.map(workers.pay, [url] * 4),
    "starmap": lambda pool, url: pool.starmap(workers.pay, [(url, "gpt-4o")] * 4),
    "imap": lambda pool, url: list(pool.imap(workers.pay, [url] * 4)),
    "imap in chunks": lambda pool, url: list(pool.imap(workers.pay, [url] * 4, 2)),
    "imap_unordered": lambda pool, url: list(pool.imap_unordered(workers.pay, [url] * 4)),
    "apply": lambda pool, url: [pool.apply(workers.pay, (url,)) for _ in range(4)],
    "apply_async": lambda pool, url: [pool.apply_async(workers.pay, (url,)).get(60) for _ in range(4)],
    "apply_async by name": lambda pool, url: [
        pool.apply_async(func=workers.pay, args=(url,)).get(60) for _ in range(4)
    ],
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", POOLS)
def test_a_refusal_comes_out_of_a_pool(kind: str, way: str, guard: Guard, provider: FakeProvider) -> None:
    """Of multiprocessing's too, which wait for ever where a worker ends otherwise; other errors stay."""
    with execution("run", budget_usd="0.25"), POOLS[kind]() as pool:
        with pytest.raises(BudgetExceeded) as refused:
            WAYS[way](pool, provider.openai_url)
        assert pool.map(abs, [-1, -2, -3]) == [1, 2, 3]
        with pytest.raises(LookupError, match="nothing there"):
            pool.apply(workers.fail)
    told = refused.value
    assert (told.execution_id, told.kind, told.limit_usd) == ("run", "budget_usd", Decimal("0.25"))
    assert told.spent_usd <= Decimal("0.2")
    assert spent(guard) == provider.count() == 2


def test_a_pool_tells_its_callback_of_a_refusal(guard: Guard, provider: FakeProvider) -> None:
    """As of any error, and says that the task did not succeed."""
    errors: list[BaseException] = []
    with execution("run", budget_usd=0), ThreadPool(1) as pool:
        result = pool.apply_async(workers.pay, (provider.openai_url,), error_callback=errors.append)
        result.wait(60)
        assert not result.successful()
    assert [type(error) for error in errors] == [BudgetExceeded]


@pytest.mark.parametrize("method", METHODS)
def test_an_executor_of_processes_goes_on_after_a_refusal(
    method: str, guard: Guard, provider: FakeProvider
) -> None:
    """The refusal, with all it tells, is what the task's `result()` raises; the workers take other tasks."""
    made = multiprocessing.get_context(method)
    with execution("run", budget_usd="0.15"), ProcessPoolExecutor(1, mp_context=made) as pool:
        assert pool.submit(workers.pay, provider.openai_url).result() == "gpt-4o"
        with pytest.raises(BudgetExceeded, match=r"may spend \$0.1500") as refused:
            pool.submit(workers.pay, provider.openai_url).result()
        assert pool.submit(abs, -1).result() == 1
    assert refused.value.spent_usd == Decimal("0.1")
    assert refused.value.last_calls == ("gpt-4o $0.100000",)
    assert spent(guard) == provider.count() == 1


@pytest.fixture
def step_limit(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A limit of twelve model calls and no budget, in force here and in whatever starts from here."""
    monkeypatch.setenv("OTEL_COST_MAX_MODEL_CALLS", "12")
    stop_forkserver()
    clients.uninstall()
    clients.install(Guard(Policy.load(max_model_calls=12), SharedLedger(), BOOK))
    yield 12
    clients.uninstall()
    stop_forkserver()


def stop_forkserver() -> None:
    """Have the next worker of it begin with the variables of now, not of when the first one did."""
    forkserver._forkserver._stop()  # type: ignore[attr-defined]


@pytest.mark.parametrize("method", METHODS)
def test_processes_count_their_steps_together(
    method: str, guard: Guard, provider: FakeProvider, step_limit: int
) -> None:
    """What the parent did before counts, and what children did counts for the parent; no budget is needed."""
    made = multiprocessing.get_context(method)
    with execution("run"):
        assert workers.call(provider.openai_url, 3) == 3
        running = [made.Process(target=workers.call, args=(provider.openai_url, 25)) for _ in range(4)]
        for process in running:
            process.start()
        for process in running:
            process.join()
        assert workers.call(provider.openai_url, 3) == 0
    assert [process.exitcode for process in running] == [0] * 4
    assert provider.count() == step_limit
    with execution("another"):
        assert workers.call(provider.openai_url, 3) == 3


def test_steps_are_counted_here_where_they_cannot_be_counted_together(
    guard: Guard, provider: FakeProvider, step_limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that fails takes no agent with it, and no limit of this process either."""

    def fails(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(SqliteLedger, "tally", fails)
    with execution("run"):
        subprocess.run([sys.executable, "-c", ""], check=True)
        assert workers.call(provider.openai_url, 25) == step_limit


def test_where_the_policy_denies_a_file_that_fails_ends_it(
    guard: Guard, provider: FakeProvider, step_limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`on_failure: deny` lets nothing pass that could not be counted."""
    clients.uninstall()
    policy = Policy.load(max_model_calls=step_limit, on_failure="deny")
    clients.install(Guard(policy, SharedLedger(), BOOK))
    with execution("run"):
        subprocess.run([sys.executable, "-c", ""], check=True)
        assert workers.call(provider.openai_url, 2) == 2
        monkeypatch.setattr(SqliteLedger, "tally", lambda *_: 1 / 0)
        assert workers.call(provider.openai_url, 2) == 0
    assert provider.count() == 2


def test_a_fork_in_the_middle_of_a_call(guard: Guard, provider: FakeProvider) -> None:
    """What the parent has in flight goes on, is settled by the parent alone, and counts for the child."""
    with execution("run", budget_usd="0.45"):
        sending = multiprocessing.get_context("fork").Process(
            target=workers.call, args=(provider.openai_url, 5)
        )
        calls = [_Thread(workers.call, provider.openai_url) for _ in range(2)]
        until(lambda: provider.count() == 2)
        sending.start()
        sending.join()
        for call in calls:
            call.join()
    assert spent(guard) == provider.count() == 4


def test_a_process_killed_in_the_middle_of_a_call(guard: Guard) -> None:
    """Its hold counts as spent at once, so nobody waits for it, and nobody gets what it may have cost."""
    slow = Reply("one", usage=Usage(output_tokens=workers.OUTPUT), delay_s=30)
    with FakeProvider(slow) as provider, execution("run", budget_usd="0.25"):
        killed = multiprocessing.get_context("fork").Process(target=workers.call, args=(provider.openai_url,))
        killed.start()
        until(lambda: provider.count() == 1)
        held = guard.ledger.balance(SCOPE).reserved_picousd
        assert killed.pid is not None
        os.kill(killed.pid, signal.SIGKILL)
        killed.join()
        with FakeProvider(Reply("one", usage=Usage(output_tokens=workers.OUTPUT))) as quick:
            began = time.monotonic()
            assert workers.call(quick.openai_url, 5) == 1
            assert time.monotonic() - began < 10
    balance = guard.ledger.balance(SCOPE)
    assert held > DIME
    assert (balance.settled_picousd, balance.reserved_picousd) == (held + DIME, 0)


def test_calls_wait_for_those_of_other_processes(guard: Guard) -> None:
    """A call that fits once a call of another process gives back what it holds too much is not refused."""
    slow = Reply("one", usage=Usage(output_tokens=workers.OUTPUT), delay_s=0.7)
    with FakeProvider(slow) as provider, execution("run", budget_usd="0.302"):
        made = multiprocessing.get_context("fork")
        running = [made.Process(target=workers.call, args=(provider.openai_url,)) for _ in range(2)]
        for process in running:
            process.start()
        until(lambda: provider.count() == 2)
        assert guard.ledger.balance(SCOPE).reserved_picousd > 2 * DIME
        assert workers.call(provider.openai_url) == 1  # three hold 0.3036, but two have cost 0.20 in the end
        for process in running:
            process.join()
    assert spent(guard) == 3


def test_a_nested_budget_holds_in_a_child(guard: Guard, provider: FakeProvider) -> None:
    """The child spends from the innermost budget around it, and that from what is around."""
    with execution("run", budget_usd="1.00"):
        with execution(budget_usd="0.25"):
            child = multiprocessing.get_context("spawn").Process(
                target=workers.call, args=(provider.openai_url, 9)
            )
            child.start()
            child.join()
        assert provider.count() == 2
        assert workers.call(provider.openai_url, 20) == 7
    assert spent(guard) == 9


@pytest.mark.parametrize("method", METHODS)
def test_a_limit_inside_a_trace_holds_in_a_child(method: str, guard: Guard, provider: FakeProvider) -> None:
    """A child shares it, and the trace's execution counts what both spend, as in one process."""
    span = trace.NonRecordingSpan(trace.SpanContext(7, 8, is_remote=False))
    with trace.use_span(span):
        assert workers.call(provider.openai_url) == 1
        with execution(budget_usd="0.35"):
            assert workers.call(provider.openai_url) == 1
            child = multiprocessing.get_context(method).Process(
                target=workers.call, args=(provider.openai_url, 9)
            )
            child.start()
            child.join()
            assert workers.call(provider.openai_url) == 0
    assert provider.count() == 4
    assert spent(guard, f"execution:{7:032x}") == 4


PROGRAM = """
import json, otel_cost, sys
from tests.guard import workers
otel_cost.install()
with otel_cost.execution(agent="child"):
    print(json.dumps([workers.call(sys.argv[1], 20), *workers.who()[1:]]))
"""


def _run(provider: FakeProvider, command: list[str] | None = None, **options: Any) -> list[Any]:
    command = command or [sys.executable, "-c", PROGRAM, provider.openai_url]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, **options)
    return list(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("env", [None, {}])
def test_a_program_spends_the_budget_it_is_started_in(
    env: dict[str, str] | None, guard: Guard, provider: FakeProvider
) -> None:
    """Whatever environment it is given: the execution, its budget and who pays are added to it."""
    with execution("run", budget_usd="0.50", team="search"):
        assert workers.call(provider.openai_url, 1) == 1
        options = {} if env is None else {"env": env}
        assert _run(provider, **options) == [3, "run", "search"]
    assert spent(guard) == 4


def test_an_agent_under_otel_cost_run_spends_its_parents_budget(
    guard: Guard, provider: FakeProvider, tmp_path: Path
) -> None:
    """With no word of otel_cost in the agent: a program as it is, started by another agent."""
    agent = tmp_path / "agent.py"
    agent.write_text(
        PROGRAM.replace("otel_cost.install()", "")
        .replace("otel_cost, ", "")
        .replace('with otel_cost.execution(agent="child"):\n    print', "print")
    )
    command = [str(Path(sys.executable).with_name("otel-cost")), "run", sys.executable, str(agent)]
    with execution("run", budget_usd="0.50", team="search"):
        environ = {**os.environ, "PYTHONPATH": str(ROOT), "OTEL_TRACES_EXPORTER": "none"}
        found = _run(provider, [*command, provider.openai_url], env=environ)
    assert found == [4, "run", "search"]
    assert spent(guard) == provider.count() == 4


@pytest.mark.parametrize(
    "inherited", ["execution=run&scope=execution:run&depth=0&limit_picousd=350000000000", "?"]
)
def test_a_child_whose_ledger_is_gone(inherited: str, provider: FakeProvider, tmp_path: Path) -> None:
    """It counts on its own: held to the limit it was told, or to its policy; it never runs without one."""
    environ = {
        **os.environ,
        "OTEL_COST_INHERITED": inherited,
        "OTEL_COST_LEDGER": str(tmp_path / "gone.ledger"),
        "OTEL_COST_BUDGET_USD": "0.55",
    }
    assert _run(provider, env=environ)[0] == (3 if "limit" in inherited else 5)


def test_where_no_file_can_be_trusted(guard: Guard, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The child still belongs to the execution, and a line says why it does not share its budget."""
    (tmp_path / "otel-cost").mkdir(mode=0o755)
    with execution("run", budget_usd=1):
        said = children.variables()
    assert "execution=run" in said["OTEL_COST_INHERITED"]
    assert "OTEL_COST_LEDGER" not in said
    assert "chmod 700" in caplog.text


def test_a_called_service_counts_for_its_callers_execution(guard: Guard, provider: FakeProvider) -> None:
    """Baggage names it, so all that one service is asked to do for one execution is held to one budget."""
    with execution("run", team="search"):
        sent: dict[str, str] = {}
        propagate.inject(sent)
    for _ in range(3):
        token = context.attach(propagate.extract({"baggage": sent["baggage"]}))
        try:
            assert workers.who()[1:] == ("run", "search")
            assert workers.call(provider.openai_url) == 1
        finally:
            context.detach(token)
    assert spent(guard) == 3


def test_a_program_started_without_waiting(guard: Guard, provider: FakeProvider) -> None:
    """As asyncio starts them."""

    async def run() -> bytes:
        command = [sys.executable, "-c", PROGRAM, provider.openai_url]
        started = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=subprocess.PIPE)
        return (await started.communicate())[0]

    with execution("run", budget_usd="0.25", team="search"):
        assert json.loads(asyncio.run(run())) == [2, "run", "search"]
    assert spent(guard) == 2


SERVER = """
import otel_cost, socketserver, threading
from tests.guard import workers
otel_cost.install()
print(workers.who()[1])
server = socketserver.TCPServer(("127.0.0.1", 0), socketserver.BaseRequestHandler)
threading.Timer(0.2, server.shutdown).start()
server.serve_forever()
server.server_close()
print(workers.who()[1] or "-")
"""


def test_a_program_that_becomes_a_server(guard: Guard) -> None:
    """It belongs to the execution until it serves: what it is asked to do then is for others."""
    with execution("run", budget_usd=1):
        done = subprocess.run(
            [sys.executable, "-c", SERVER], cwd=ROOT, capture_output=True, text=True, check=True
        )
    assert done.stdout.split() == ["run", "-"]


def test_what_the_caller_set_itself_stays(guard: Guard) -> None:
    """A program that was given another trace keeps it."""
    with execution("run", budget_usd=1):
        said = children._environment({"TRACEPARENT": "mine"}, children.variables())
    assert said is not None
    assert said["TRACEPARENT"] == "mine"
    assert "execution=run" in said["OTEL_COST_INHERITED"]


def test_outside_of_an_execution_nothing_is_carried(guard: Guard, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is anything shared, so a server that forks workers pays nothing for it."""
    monkeypatch.setattr(process, "_runs_many", lambda: True)
    assert children.variables() == {}
    assert guard.ledger.paths == ()  # type: ignore[attr-defined]


def test_while_the_guard_is_off_nothing_is_carried() -> None:
    """Programs get the environment that they were given."""
    clients.uninstall()
    with execution("run"):
        assert children.variables() == {}


def test_a_ledger_in_memory_is_not_shared(provider: FakeProvider) -> None:
    """With `guard.ledger: memory` each process counts on its own, from what was spent when it was forked."""
    own = Guard(Policy.load(environ={}, max_wait_s=5), MemoryLedger(), BOOK)
    clients.install(own)
    try:
        with execution("run", budget_usd="0.35"):
            assert workers.call(provider.openai_url) == 1
            child = multiprocessing.get_context("fork").Process(
                target=workers.call, args=(provider.openai_url, 9)
            )
            child.start()
            child.join()
            assert provider.count() == 3
            assert workers.call(provider.openai_url, 9) == 2
    finally:
        clients.uninstall()


def test_processes_that_know_nothing_of_each_other(tmp_path: Path, provider: FakeProvider) -> None:
    """With `guard.ledger: shared` an execution's id is enough, as for workers that take turns in one."""
    tmp_path.chmod(0o700)
    environ = {**os.environ, "OTEL_COST_GUARD_LEDGER": "shared", "XDG_RUNTIME_DIR": str(tmp_path)}
    program = PROGRAM.replace('execution(agent="child"', 'execution("conversation", budget_usd="0.55"')
    command = [sys.executable, "-c", program, provider.openai_url]
    running = [
        subprocess.Popen(command, cwd=ROOT, env=environ, stdout=subprocess.PIPE, text=True) for _ in range(3)
    ]
    answers = [json.loads(process.communicate()[0]) for process in running]
    assert sum(answer[0] for answer in answers) == provider.count() == 5
    environ["OTEL_COST_LEDGER"] = str(tmp_path / "another.ledger")
    assert _run(provider, command, env=environ)[0] == 5


def test_the_file_goes_with_the_last_process(tmp_path: Path, provider: FakeProvider) -> None:
    """The parent leaves it to a child that runs on, and the child removes it."""
    tmp_path.chmod(0o700)
    program = tmp_path / "parent.py"
    program.write_text(
        "import otel_cost, subprocess, sys\n"
        "with otel_cost.execution('run', budget_usd='0.25'):\n"
        "    code = 'import otel_cost, sys; sys.stdin.read(); otel_cost.install()\\n'\n"
        "    code += 'from tests.guard import workers; print(workers.call(sys.argv[1], 9))'\n"
        "    subprocess.Popen([sys.executable, '-c', code, sys.argv[1]])\n"
    )
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "XDG_RUNTIME_DIR": str(tmp_path)}
    with subprocess.Popen(
        [sys.executable, str(program), provider.openai_url],
        env=environ,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as running:
        running.wait()
        assert len(list((tmp_path / "otel-cost").glob("*.ledger"))) == 1
        assert running.communicate("go")[0].strip() == "2"
    until(lambda: not list((tmp_path / "otel-cost").iterdir()))


class _Thread:
    """A call in a thread, inside the execution it is started in."""

    def __init__(self, work: Any, *args: Any) -> None:
        import threading

        self._thread = threading.Thread(target=work, args=args)
        self._thread.start()

    def join(self) -> None:
        """Wait for its end."""
        self._thread.join()
