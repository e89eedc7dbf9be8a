"""`otel-cost run`, `doctor` and `demo` as a person uses them."""

from __future__ import annotations

import json
import subprocess
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from otel_cost.cli import doctor
from otel_cost.demo import stage
from otel_cost.demo.scenario import RUNS
from otel_cost.fake_provider import Call, FakeProvider, Reply
from otel_cost.pricing import PriceBook
from otel_cost.usage import Usage
from tests.agents.harness import Program, send_to
from tests.servers import free_port

CALL = """
import openai
openai.OpenAI().chat.completions.create(model="gpt-5-mini", messages=[{"role": "user", "content": "hi"}])
"""
MAIN = "from otel_cost.cli.main import main; main()"


def otel_cost(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command line."""
    program = Program(MAIN, arguments, environment, instrumented=False)
    return program.run({"COLUMNS": "200", **environment})


def test_run_names_who_pays_and_what_ran(collector, tmp_path):
    """The payer given on the command line and the script's name are on every call's span."""
    script = tmp_path / "agent.py"
    script.write_text(CALL)
    with FakeProvider(Reply(usage=Usage(input_tokens=1000, output_tokens=100))) as provider:
        environment = provider.environment | send_to(collector)
        payer = ["--user", "alice", "--team", "search", "--feature", "answers"]
        finished = otel_cost("run", *payer, "--", "python", str(script), **environment)
    assert finished.returncode == 0, finished.stderr
    (call,) = collector.counted()
    # gpt-5-mini: 1000 * $0.25 + 100 * $2.00 per million (genai-prices 0.2.3, OpenAI's price page).
    assert call.cost_usd == Decimal("0.00045")
    named = {name: call.attributes[f"otel_cost.{name}"] for name in ("user", "team", "feature")}
    assert named == {"user": "alice", "team": "search", "feature": "answers"}
    assert call.resource["service.name"] == "agent"


def test_run_passes_arguments_and_status_through():
    """Options of the program are the program's, and its exit status is ours."""
    code = "import sys; print(sys.argv[1:]); sys.exit(7)"
    environment = {"OTEL_SDK_DISABLED": "true"}
    finished = otel_cost("run", "python", "-c", code, "--user", "x", "-v", **environment)
    assert finished.returncode == 7
    assert finished.stdout == "['--user', 'x', '-v']\n"


def test_run_says_which_command_it_did_not_find():
    """An unknown command gets a shell's status and one line."""
    finished = otel_cost("run", "--", "no-such-command", "x")
    assert finished.returncode == 127
    assert finished.stderr == "otel-cost run: there is no command 'no-such-command' on PATH\n"


def test_run_tells_every_mistake_before_the_program_starts(tmp_path):
    """The policy, its file and the settings are read first; what is wrong is told together, with status 2."""
    policy = tmp_path / "otel-cost.yaml"
    policy.write_text("execution:\n  budgt_usd: 5\n")
    wrong = {"OTEL_COST_BUDGET_USD": "$0.25", "OTEL_COST_INSTRUMENTORS": "offical", "OTEL_COST_METRICS": "ja"}
    finished = otel_cost("run", "--", "python", "-c", "print('ran')", **wrong, OTEL_COST_POLICY=str(policy))
    assert (finished.returncode, finished.stdout) == (2, "")
    first, *problems = finished.stderr.splitlines()
    assert first.startswith("otel-cost: python -c 'print('")
    assert problems == [
        f"{policy}:2: 'budgt_usd' is not known here; did you mean 'budget_usd'?",
        "OTEL_COST_BUDGET_USD='$0.25' is not a number of USD; write 10 or 10.00",
        "OTEL_COST_METRICS='ja' is not a switch; write true or false",
    ]


def test_run_says_that_a_script_is_not_executable(tmp_path):
    """A file that is there but may not be run is not called missing; a shell's status for it is 126."""
    script = tmp_path / "agent.py"
    script.write_text("print(1)")
    finished = otel_cost("run", "--", str(script))
    assert finished.returncode == 126
    assert f"is not executable; write python {script}" in finished.stderr


def findings(*arguments: str, **environment: str) -> tuple[int, dict[str, dict[str, Any]]]:
    """Return the doctor's status and its findings by subject."""
    finished = otel_cost("doctor", "--json", *arguments, **environment)
    return finished.returncode, {found["subject"]: found for found in json.loads(finished.stdout)}


def test_doctor_is_content_with_a_whole_set_up(collector, tmp_path):
    """With a collector at hand nothing fails; every library here is watched by one instrumentation."""
    store = f"chdb://{tmp_path / 'store'}"
    status, found = findings("--store", store, OTEL_EXPORTER_OTLP_ENDPOINT=collector.url)
    assert status == 0
    assert {entry["level"] for entry in found.values()} <= {"ok", "warn"}
    watched = {
        subject.split()[0]: entry["detail"]
        for subject, entry in found.items()
        if "watched" in entry["detail"]
    }
    assert "opentelemetry-instrumentation-genai-openai (official)" in watched["openai"]
    assert watched["anthropic"].startswith("watched by its own spans")
    assert found["store"]["remedy"] == "otel-cost up --background makes it"
    assert not (tmp_path / "store").exists()


def test_doctor_fails_with_a_remedy_for_each_fault(tmp_path):
    """A collector that is away, a disabled SDK and a wrong setting each fail, with what to do."""
    settings = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{free_port()}",
        "OTEL_SDK_DISABLED": "true",
        "OTEL_COST_METRICS": "perhaps",
        "OTEL_TRACES_SAMPLER": "always_off",
    }
    status, found = findings("--store", f"chdb://{tmp_path}/store", **settings)
    assert status == 1
    assert {subject for subject, entry in found.items() if entry["level"] == "fail"} == {
        "collector",
        "OTEL_SDK_DISABLED",
        "settings",
    }
    assert "OTEL_COST_METRICS='perhaps'" in found["settings"]["detail"]
    assert found["OTEL_TRACES_SAMPLER"]["level"] == "warn"
    assert all(entry["remedy"] for entry in found.values() if entry["level"] != "ok")


def test_doctor_names_a_policy_and_variables_that_cannot_be_used(monkeypatch, tmp_path):
    """A limit that is no number, ids to hash that are none, and a misspelt limit, which nothing reads."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OTEL_COST_BUDGET_USD", "10$")
    (found,) = doctor._settings()
    assert (found.level, "OTEL_COST_BUDGET_USD='10$'" in found.detail) == ("fail", True)
    monkeypatch.setenv("OTEL_COST_HASH_FIELDS", "user_id")
    (found,) = doctor._settings()
    assert "names no payer field 'user_id'; did you mean user?" in found.detail
    monkeypatch.delenv("OTEL_COST_HASH_FIELDS")
    monkeypatch.delenv("OTEL_COST_BUDGET_USD")
    monkeypatch.setenv("OTEL_COST_BUGDET_USD", "10")
    told = [finding.detail for finding in doctor._settings() if finding.level == "warn"]
    assert "OTEL_COST_BUGDET_USD is not read by anything; did you mean OTEL_COST_BUDGET_USD?" in told


def test_doctor_names_the_package_that_is_missing(monkeypatch):
    """A library nothing watches comes with the command that mends it."""
    monkeypatch.setenv("OTEL_PYTHON_DISABLED_INSTRUMENTATIONS", "openai")
    (found,) = [
        finding for finding in doctor.examine("chdb:///nowhere") if finding.subject.startswith("openai 3")
    ]
    assert (found.level, found.detail) == ("warn", "nothing watches it")
    assert found.remedy == "pip install opentelemetry-instrumentation-genai-openai"


def test_doctor_names_what_records_a_call_twice(monkeypatch):
    """The Anthropic SDK's own spans beside an instrumentor are two records of one call."""
    monkeypatch.setenv("ANTHROPIC_OPEN_TELEMETRY", "true")
    monkeypatch.setenv("OTEL_COST_INSTRUMENTORS", "anthropic=official")
    (found,) = [
        finding for finding in doctor.examine("chdb:///nowhere") if finding.subject == "anthropic twice"
    ]
    assert found.level == "warn"
    assert "counted once" in found.detail
    assert found.remedy == "unset ANTHROPIC_OPEN_TELEMETRY"


def test_doctor_tells_models_without_a_price_from_calls_without_usage():
    """One needs a price file; the other says no tokens, and no price would help."""
    rows = [
        {"provider": "acme", "model": "house-1", "calls": 3, "calls_with_usage": 2},
        {"provider": "openai", "model": "gpt-5-mini", "calls": 4, "calls_with_usage": 0},
    ]
    found = [(finding.subject, finding.detail) for finding in doctor._unpriced(rows)]
    assert found == [
        ("unpriced models", "acme/house-1: 2 calls"),
        ("calls without usage", "5 calls do not say their tokens"),
    ]


def test_doctor_in_plain_text_shows_level_and_remedy(tmp_path):
    """People see the same findings as a table."""
    endpoint = f"http://127.0.0.1:{free_port()}"
    store = f"chdb://{tmp_path}/store"
    finished = otel_cost("doctor", "--store", store, OTEL_EXPORTER_OTLP_ENDPOINT=endpoint)
    assert finished.returncode == 1
    assert f"nothing listens at {endpoint}" in finished.stdout
    assert "-> otel-cost up --background" in finished.stdout


def test_the_demo_is_worked_out_by_hand():
    """The sums of the bills, added up on paper.

    alice: 1,600 + 80 + 91 + 1,282.6 = 3,053.6 millionths; bob: 45,990 + 725 + 5,894.4 = 52,609.4 millionths;
    carol: 6 x (75 + 3,000) = 18,450 millionths.
    """
    assert {run.user: run.cost_usd for run in RUNS} == {
        "alice": Decimal("0.0030536"),
        "bob": Decimal("0.0526094"),
        "carol": Decimal("0.01845"),
    }


def test_the_bills_of_the_demo_are_what_the_price_book_says():
    """A price change that the demo has not followed is found here, not by somebody who runs it."""
    book = PriceBook.load()
    asked = {
        "alice": [("gpt-5-mini", False), ("gpt-5-nano", False), ("gpt-5-nano", True), ("gpt-5-mini", True)],
        "bob": [("claude-sonnet-4-6", False), ("claude-haiku-4-5", False), ("claude-sonnet-4-6", True)],
    }
    asked["carol"] = [("gpt-5-mini", False)] * 6
    now_ns = 1_795_000_000_000_000_000
    for run in RUNS:
        for bill, (model, is_answering) in zip(run.bills, asked[run.user], strict=True):
            body = {"tool_result": "function_call_output"} if is_answering else {}
            reply = run.script(Call(1, "any", "/", model, False, body, {}, "id"))
            assert bill.model == model
            assert book.price(reply.usage, model=model, at=now_ns).cost_usd == bill.cost_usd


def test_the_demo_fails_loudly_on_other_dollars(tmp_path):
    """A store that says a millionth more than the bills ends the demo with both amounts."""

    class Wrong(stage.Stage):
        def ask(self, *arguments: str) -> Any:
            return [{"user_id": "alice", "cost_usd": "0.0030546"}]

    with pytest.raises(
        stage.DemoError, match=r"alice spent \$0\.0030536 by hand, but the store says 0\.0030546"
    ):
        stage._check_dollars(Wrong(tmp_path, print))


def test_the_demo_says_what_to_install(monkeypatch):
    """Without its frameworks the demo names them and the command that brings them."""
    monkeypatch.setattr(stage, "find_spec", lambda name: None)
    with pytest.raises(stage.ConfigError, match=r"pip install 'otel-cost\[demo\]'"):
        stage._check_frameworks()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_whole_demo(tmp_path):
    """On a fresh directory: agents run, costs are right to the last digit, the stack stays until stopped."""
    home = str(tmp_path / "demo")
    try:
        finished = otel_cost("demo", "--home", home, "--data", str(tmp_path))
        assert finished.returncode == 0, finished.stderr
        assert "alice  $0.0030536  = the store, to the last digit" in finished.stdout
        assert "bob    $0.0526094  = the store, to the last digit, 1 call without a price" in finished.stdout
        assert "carol  $0.01845  = the store, to the last digit, stopped below $0.021" in finished.stdout
        assert "BudgetExceeded: execution" in finished.stdout
        assert finished.stdout.count("the demo goes on without them") == 3
        users = json.loads(otel_cost("top", "users", "--json", OTEL_COST_STORE=f"chdb://{home}/store").stdout)
        assert {row["user_id"] for row in stage._rows(users)} == {"alice", "bob", "carol"}
        answer = otel_cost("decisions", "--json", OTEL_COST_STORE=f"chdb://{home}/store").stdout
        decided = [(row["decision"], row["kind"], row["user_id"]) for row in json.loads(answer)]
        assert decided == [("deny", "budget_usd", "carol"), ("warn", "budget_usd", "carol")]
    finally:
        stopped = otel_cost("demo", "--home", home, "--stop")
    assert stopped.stdout == "stopped\n"


def test_examples_are_found_beside_the_package():
    """Every program of the demo is where the demo looks for it."""
    for run in RUNS:
        assert Path(stage._example(run.program)).is_file()
