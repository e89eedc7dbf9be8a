"""Which instrumentation watches which library: one for each, enabled when the library is first imported.

Nothing here imports a library or an instrumentor to find out whether it is installed. Importing the
instrumentors imports their libraries, which takes many seconds when several are installed.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from typing import Any

import wrapt

from otel_cost.containment import contained
from otel_cost.errors import ConfigError

logger = logging.getLogger("otel_cost")

GROUP = "opentelemetry_instrumentor"
FAMILIES = ("native", "official", "openinference", "openllmetry")
NATIVE = "native"
"""The library emits spans by itself."""


@dataclass(frozen=True, slots=True)
class Library:
    """A library that calls models, and what can watch it.

    Attributes:
        name: What it is called in settings and reports: the name of its distribution.
        module: The module whose import means that it is used.
        inner_module: One of it that means so too, where `module` is a namespace: its import is not told of.
        official: Distribution of OpenTelemetry's own instrumentor; likewise the next two of their projects.
        native_since: First version that emits spans by itself; None where it never does.
    """

    name: str
    module: str
    official: str | None = None
    openinference: str | None = None
    openllmetry: str | None = None
    native_since: tuple[int, ...] | None = None
    inner_module: str | None = None

    @property
    def modules(self) -> tuple[str, ...]:
        """The modules of which the first to be imported means that it is used."""
        return (self.module, self.inner_module) if self.inner_module else (self.module,)

    def distributions(self) -> dict[str, str]:
        """Return the distribution that holds the instrumentor of each family."""
        named = {family: getattr(self, family) for family in FAMILIES if family != NATIVE}
        return {family: distribution for family, distribution in named.items() if distribution}


def _library(name: str, module: str, official: str = "", short: str = "", **others: Any) -> Library:
    """Return a library whose instrumentors are called after it in both community projects."""
    short = short or name
    return Library(
        name,
        module,
        official=f"opentelemetry-instrumentation-{official}" if official else None,
        openinference=others.pop("openinference", f"openinference-instrumentation-{short}"),
        openllmetry=others.pop("openllmetry", f"opentelemetry-instrumentation-{short}"),
        **others,
    )


LIBRARIES = (
    _library("openai", "openai", "genai-openai"),
    _library("anthropic", "anthropic", "genai-anthropic", native_since=(2,)),
    _library(
        "google-genai",
        "google.genai",
        "google-genai",
        openllmetry="opentelemetry-instrumentation-google-generativeai",
    ),
    _library("langchain-core", "langchain_core", "genai-langchain", "langchain"),
    _library("openai-agents", "agents", "genai-openai-agents"),
    _library("smolagents", "smolagents", "genai-smolagents", openllmetry=None),
    _library("boto3", "botocore", "genai-bedrock", "bedrock"),
    _library("litellm", "litellm"),
    _library("crewai", "crewai"),
    _library("llama-index-core", "llama_index.core", "", "llama-index", openllmetry=None),
    _library("mistralai", "mistralai", inner_module="mistralai.client"),  # a namespace since version 2
    _library("groq", "groq"),
    _library("cohere", "cohere"),
    _library("ollama", "ollama"),
    _library("together", "together", openinference=None),
    _library("haystack-ai", "haystack", "", "haystack"),
    _library("dspy", "dspy", openllmetry=None),
    _library("agno", "agno"),
    _library("autogen-agentchat", "autogen_agentchat", openllmetry=None),
    _library("google-cloud-aiplatform", "vertexai", "", "vertexai"),
    _library("pydantic-ai-slim", "pydantic_ai", "", "pydantic-ai", openllmetry=None, native_since=(0, 1)),
    _library("strands-agents", "strands", openllmetry=None, native_since=(0, 1)),
    _library("google-adk", "google.adk", openllmetry=None, native_since=(0, 1)),
)

PREFERENCE: Mapping[str, tuple[str, ...]] = {
    # Only the SDK's own spans tell five-minute from one-hour cache writes, whose prices differ.
    "anthropic": (NATIVE,),
    "pydantic-ai-slim": (NATIVE,),
    "strands-agents": (NATIVE,),
    "google-adk": (NATIVE,),
}
"""Families that come before the configured order for one library."""

DECLARED_TOO_NARROWLY = frozenset(
    {
        "opentelemetry-instrumentation-google-genai",  # declares google-genai below 3, works with 3
        "opentelemetry-instrumentation-genai-langchain",  # declares langchain, needs only langchain-core
    }
)
"""Instrumentors that work with more than the library versions they declare."""

NATIVE_SWITCHES = {"anthropic": "ANTHROPIC_OPEN_TELEMETRY"}
"""Variables that turn a library's own spans off with `false`."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What watches one installed library.

    Attributes:
        version: Version of the library.
        family: One of `FAMILIES`; None when nothing installed can watch it.
        entry_point: How the instrumentor is loaded; None for native spans.
        passed_over: Distributions of instrumentors that are installed too and stay off.
        advice: The distribution to install when nothing watches the library.
    """

    library: Library
    version: str
    family: str | None = None
    entry_point: metadata.EntryPoint | None = None
    passed_over: tuple[str, ...] = ()
    advice: str | None = None

    @property
    def distribution(self) -> str | None:
        """The distribution of the instrumentor, None for native spans or when there is none."""
        return _distribution_of(self.entry_point) if self.entry_point else None


def _normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _distribution_of(entry_point: metadata.EntryPoint) -> str:
    distribution = getattr(entry_point, "dist", None)
    return _normalized(distribution.name) if distribution else ""


def version_number(version: str) -> tuple[int, ...]:
    """Return the first three numbers of a version: `2.12.0rc1` is (2, 12, 0)."""
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def installed_version(distribution: str) -> str | None:
    """Return the version of an installed distribution, None when it is not installed."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def parse_order(entries: Sequence[str]) -> tuple[tuple[str, ...], dict[str, str]]:
    """Split the setting into the order of families and the families fixed for one library.

    Args:
        entries: Families such as `openinference`, and pairs such as `openai=openllmetry` or `openai=none`.

    Raises:
        ConfigError: Naming every entry that is neither.
    """
    fixed = dict(entry.split("=", 1) for entry in entries if "=" in entry)
    order = tuple(entry for entry in entries if "=" not in entry)
    known = {library.name for library in LIBRARIES}
    problems = [
        f"OTEL_COST_INSTRUMENTORS: {entry!r} is not a family; write one of {', '.join(FAMILIES)}"
        for entry in order
        if entry not in FAMILIES
    ]
    for name, family in fixed.items():
        if name not in known or family not in (*FAMILIES, "none"):
            problems.append(
                f"OTEL_COST_INSTRUMENTORS: '{name}={family}' is not a known library and family; "
                f"write for example openai=openinference or openai=none"
            )
    if problems:
        raise ConfigError(problems)
    return order + tuple(family for family in FAMILIES[1:] if family not in order), fixed


def plan(order: Sequence[str] = (), *, disabled: Iterable[str] = ()) -> list[Choice]:
    """Decide what watches each installed library. Imports none of them.

    Args:
        order: As in `parse_order`; families left out come last.
        disabled: Names of instrumentors that stay off, as in OTEL_PYTHON_DISABLED_INSTRUMENTATIONS.
    """
    families, fixed = parse_order(order)
    available = _available(frozenset(disabled))
    choices = []
    for library in LIBRARIES:
        version = installed_version(library.name)
        if version is not None and fixed.get(library.name) != "none":
            pinned = [fixed[library.name]] if library.name in fixed else []
            preferred = [*pinned, *PREFERENCE.get(library.name, ()), *families]
            choices.append(_choose(library, version, preferred, available))
    return choices


def _available(disabled: frozenset[str]) -> dict[str, metadata.EntryPoint]:
    """Return the installed instrumentors of the table by distribution, without the disabled ones."""
    if "*" in disabled:
        return {}
    return {
        _distribution_of(entry_point): entry_point
        for entry_point in owned_entry_points(metadata.entry_points(group=GROUP))
        if entry_point.name not in disabled
    }


def owned_entry_points(entry_points: Iterable[metadata.EntryPoint]) -> list[metadata.EntryPoint]:
    """Return the instrumentors this module decides about.

    Told apart by distribution: OpenTelemetry's and OpenLLMetry's instrumentors share entry point names.
    """
    owned = {name for library in LIBRARIES for name in library.distributions().values()}
    return [entry_point for entry_point in entry_points if _distribution_of(entry_point) in owned]


def _choose(
    library: Library, version: str, families: Sequence[str], available: Mapping[str, metadata.EntryPoint]
) -> Choice:
    distributions = library.distributions()
    present = [name for name in distributions.values() if name in available]
    for family in families:
        if family == NATIVE and _is_native(library, version):
            return Choice(library, version, NATIVE, passed_over=tuple(present))
        distribution = distributions.get(family, "")
        if distribution in available and _fits(available[distribution]):
            others = tuple(name for name in present if name != distribution)
            return Choice(library, version, family, available[distribution], others)
    advice = next((distributions[family] for family in families if family in distributions), None)
    return Choice(library, version, passed_over=tuple(present), advice=advice)


def _is_native(library: Library, version: str) -> bool:
    if library.native_since is None or version_number(version) < library.native_since:
        return False
    switch = NATIVE_SWITCHES.get(library.name)
    return switch is None or os.environ.get(switch, "").strip().lower() != "false"


def _fits(entry_point: metadata.EntryPoint) -> bool:
    """Return whether the installed library has a version the instrumentor works with."""
    from opentelemetry.instrumentation.dependencies import get_dist_dependency_conflicts

    if _distribution_of(entry_point) in DECLARED_TOO_NARROWLY or entry_point.dist is None:
        return True
    conflict = get_dist_dependency_conflicts(entry_point.dist)
    if conflict:
        logger.info("%s is left out: %s", _distribution_of(entry_point), conflict)
    return not conflict


def enable(choices: Iterable[Choice]) -> None:
    """Have each library watched from the moment it is imported, or from now on where it already is."""
    for choice in choices:
        if choice.entry_point is not None:
            _silence_native(choice)
            for module in choice.library.modules:
                wrapt.register_post_import_hook(partial(_instrument, choice.entry_point), module)
        elif choice.family == NATIVE and choice.library.name in NATIVE_STARTERS:
            wrapt.register_post_import_hook(NATIVE_STARTERS[choice.library.name], choice.library.module)


def _silence_native(choice: Choice) -> None:
    """Turn a library's own spans off, unless the user asked for them, when an instrumentor watches it."""
    switch = NATIVE_SWITCHES.get(choice.library.name)
    if switch is not None:
        os.environ.setdefault(switch, "false")


def _instrument(entry_point: metadata.EntryPoint, module: object) -> None:
    with contained(f"instrument with {_distribution_of(entry_point)}"):
        instrumentor = entry_point.load()()
        if not getattr(instrumentor, "is_instrumented_by_opentelemetry", False):
            instrumentor.instrument(skip_dep_check=True)


def _instrument_pydantic_ai(module: Any) -> None:
    with contained("instrument pydantic-ai"):
        module.Agent.instrument_all()


NATIVE_STARTERS: Mapping[str, Callable[[Any], None]] = {"pydantic-ai-slim": _instrument_pydantic_ai}
"""Libraries that emit spans only after they are told to."""
