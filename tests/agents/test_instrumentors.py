"""Choosing one instrumentor for each library, from what is installed, without importing it."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from otel_cost import instrumentors
from otel_cost.errors import ConfigError
from otel_cost.instrumentors import Choice, plan

MakeInstalled = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeInstalled:
    """Install distributions, with an instrumentor's entry point where one is named, and nothing else."""
    monkeypatch.setattr(sys, "path", [str(tmp_path)])

    def make(name: str, version: str = "9.0", instruments: str = "", entry_point: str = "") -> None:
        home = tmp_path / f"{name.replace('-', '_')}-{version}.dist-info"
        home.mkdir()
        required = f"Provides-Extra: instruments\nRequires-Dist: {instruments}; extra == 'instruments'\n"
        text = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{required if instruments else ''}"
        (home / "METADATA").write_text(text)
        if entry_point:
            line = f"{entry_point} = {name.replace('-', '_')}:Instrumentor"
            (home / "entry_points.txt").write_text(f"[opentelemetry_instrumentor]\n{line}\n")

    return make


def only(choices: list[Choice]) -> Choice:
    """Return the one choice."""
    (choice,) = choices
    return choice


def test_nothing_installed_gives_nothing(install):
    """A library that is not installed is not mentioned."""
    install("requests")
    assert plan() == []


def test_the_official_instrumentor_comes_first(install):
    """Of three projects' instrumentors of one library one is chosen, and the others are named as left off."""
    install("openai", "3.54.0")
    install("opentelemetry-instrumentation-openai", "0.62", "openai>=1", "openai")
    install("openinference-instrumentation-openai", "0.1", "openai>=1", "openai")
    install("opentelemetry-instrumentation-genai-openai", "1.3b0", "openai>=1", "openai")
    choice = only(plan())
    assert (choice.library.name, choice.version, choice.family) == ("openai", "3.54.0", "official")
    assert choice.distribution == "opentelemetry-instrumentation-genai-openai"
    assert set(choice.passed_over) == {
        "opentelemetry-instrumentation-openai",
        "openinference-instrumentation-openai",
    }


def test_instrumentors_of_one_name_are_told_apart_by_distribution(install):
    """OpenLLMetry's entry point has the official one's name; the order still decides."""
    install("openai")
    install("opentelemetry-instrumentation-openai", "0.62", "openai>=1", "openai")
    install("opentelemetry-instrumentation-genai-openai", "1.3b0", "openai>=1", "openai")
    assert only(plan(["openllmetry"])).distribution == "opentelemetry-instrumentation-openai"
    assert only(plan(["openai=openllmetry"])).family == "openllmetry"
    assert only(plan(["openinference"])).family == "official"


def test_an_instrumentor_that_does_not_fit_is_not_chosen(install):
    """One that declares another version of the library gives way to the next."""
    install("openai", "3.54.0")
    install("opentelemetry-instrumentation-genai-openai", "1.0b0", "openai<3", "openai")
    install("openinference-instrumentation-openai", "0.1", "openai>=1", "openai")
    assert only(plan()).family == "openinference"


def test_nothing_that_fits_names_what_to_install(install):
    """A library nothing watches comes with the distribution to install."""
    install("groq")
    choice = only(plan())
    assert (choice.family, choice.advice) == (None, "openinference-instrumentation-groq")


@pytest.mark.parametrize(
    ("version", "library", "distribution"),
    [
        ("3.1", "google-genai", "opentelemetry-instrumentation-google-genai"),
        ("1.7", "langchain-core", "opentelemetry-instrumentation-genai-langchain"),
    ],
)
def test_a_declaration_known_to_be_too_narrow_is_overruled(install, version, library, distribution):
    """Two official instrumentors work with more than they declare."""
    install(library, version)
    install(distribution, "1.3b0", "google-genai<3" if "google" in library else "langchain>=0.3", "x")
    assert only(plan()).distribution == distribution


def test_the_anthropic_sdk_watches_itself(install, monkeypatch):
    """Its own spans come first, unless they are off, too old, or another family is fixed."""
    monkeypatch.delenv("ANTHROPIC_OPEN_TELEMETRY", raising=False)
    install("anthropic", "2.12.0")
    install("opentelemetry-instrumentation-genai-anthropic", "1.3b0", "anthropic>=0.5", "anthropic")
    assert only(plan()).family == "native"
    assert only(plan(["anthropic=official"])).family == "official"
    monkeypatch.setenv("ANTHROPIC_OPEN_TELEMETRY", "false")
    assert only(plan()).family == "official"


def test_an_old_anthropic_sdk_needs_an_instrumentor(install):
    """Before version 2 there are no spans of its own."""
    install("anthropic", "1.99.0")
    install("opentelemetry-instrumentation-genai-anthropic", "1.3b0", "anthropic>=0.5", "anthropic")
    assert only(plan()).family == "official"


def test_disabled_names_stay_off(install):
    """OTEL_PYTHON_DISABLED_INSTRUMENTATIONS names entry points; the star means all."""
    install("openai")
    install("opentelemetry-instrumentation-genai-openai", "1.3b0", "openai>=1", "openai")
    assert only(plan(disabled=["openai"])).family is None
    assert only(plan(disabled=["*"])).family is None
    assert plan(["openai=none"]) == []


def test_every_wrong_entry_of_the_setting_is_named():
    """A typo in one entry does not hide the other."""
    with pytest.raises(ConfigError) as caught:
        instrumentors.parse_order(["offical", "openai=opentelemetry", "openllmetry"])
    assert len(caught.value.problems) == 2
    assert "'offical'" in str(caught.value)
    assert "'openai=opentelemetry'" in str(caught.value)


def test_an_instrumentor_is_loaded_when_its_library_is_imported(install, tmp_path, monkeypatch):
    """Nothing is imported before; the import of the library brings the instrumentor in, once."""
    install("groq")
    install("openinference-instrumentation-groq", "0.1", "groq>=1", "groq")
    (tmp_path / "groq.py").write_text("")
    (tmp_path / "openinference_instrumentation_groq.py").write_text(
        "calls = []\nclass Instrumentor:\n    def instrument(self, **options): calls.append(options)\n"
    )
    for module in ("groq", "openinference_instrumentation_groq"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    instrumentors.enable(plan())
    assert "openinference_instrumentation_groq" not in sys.modules
    import groq  # noqa: F401

    instrumentor: ModuleType = sys.modules["openinference_instrumentation_groq"]
    assert instrumentor.calls == [{"skip_dep_check": True}]


@pytest.mark.parametrize("home", ["mistralai/__init__.py", "mistralai/client/__init__.py"])
def test_a_library_that_is_a_namespace_is_noticed_too(install, tmp_path, monkeypatch, home):
    """mistralai 1 is a package, 2 and later a namespace that nobody is told of; each is watched once."""
    install("mistralai")
    install("openinference-instrumentation-mistralai", "2.2", "mistralai>=1", "mistralai")
    (tmp_path / home).parent.mkdir(parents=True)
    (tmp_path / home).write_text("")
    (tmp_path / "mistralai" / "client").mkdir(exist_ok=True)
    (tmp_path / "mistralai" / "client" / "__init__.py").write_text("")
    (tmp_path / "openinference_instrumentation_mistralai.py").write_text(
        "calls = []\nclass Instrumentor:\n    is_instrumented_by_opentelemetry = False\n"
        "    def instrument(self, **options):\n"
        "        calls.append(options)\n        Instrumentor.is_instrumented_by_opentelemetry = True\n"
    )
    for module in ("mistralai", "mistralai.client", "openinference_instrumentation_mistralai"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    instrumentors.enable(plan())
    importlib.import_module("mistralai.client")
    assert sys.modules["openinference_instrumentation_mistralai"].calls == [{"skip_dep_check": True}]


@pytest.mark.parametrize(
    ("library", "distribution", "family"),
    [
        ("ollama", "openinference-instrumentation-ollama", "openinference"),
        ("ollama", "opentelemetry-instrumentation-ollama", "openllmetry"),
        ("google-genai", "opentelemetry-instrumentation-google-generativeai", "openllmetry"),
    ],
)
def test_the_only_instrumentor_there_is_is_chosen(install, library, distribution, family):
    """Of each project that has one for a library."""
    install(library)
    install(distribution, "1.0", library, "entry")
    choice = only(plan())
    assert (choice.family, choice.distribution) == (family, distribution)


def test_a_broken_instrumentor_does_not_break_the_import(install, tmp_path, monkeypatch, caplog):
    """An instrumentor that fails is reported once; the program's import succeeds."""
    install("cohere")
    install("openinference-instrumentation-cohere", "0.1", "cohere>=1", "cohere")
    (tmp_path / "cohere.py").write_text("works = True")
    (tmp_path / "openinference_instrumentation_cohere.py").write_text("raise RuntimeError('broken')")
    monkeypatch.delitem(sys.modules, "cohere", raising=False)
    instrumentors.enable(plan())
    import cohere

    assert cohere.works
    assert "instrument with openinference-instrumentation-cohere" in caplog.text
