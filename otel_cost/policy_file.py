"""Reads a policy from its sources: arguments, variables and a YAML file.

`otel_cost.budgets` says what a policy is, and keeps this module from loading where none is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from otel_cost import policy_values as values
from otel_cost.budgets import SECTIONS, TABLES, ExecutionLimits, Ladder, Policy
from otel_cost.errors import ConfigError
from otel_cost.policy_values import ARGUMENT, Given, Problems, unknown

POLICY_VARIABLE = "OTEL_COST_POLICY"
POLICY_NAME = "otel-cost.yaml"
"""The file that is read from the working directory where no other is named."""
PRICES_VARIABLE = "OTEL_COST_PRICES"
KEYS = (*SECTIONS, *TABLES, "prices")
_SECTION_OF = {item.name: section for section, kind in SECTIONS.items() for item in fields(kind)}
_NOWHERE: Mapping[str, str] = {}
MAX_DEPTH = 6
"""Of mappings within mappings; the deepest setting needs four."""

T = TypeVar("T")


class Loader:
    """Reads one policy from its three sources and gathers every problem."""

    def __init__(
        self, path: str | Path | None, environ: Mapping[str, str], arguments: Mapping[str, Any]
    ) -> None:
        self._path = policy_path(path, environ)
        self._environ = environ
        self._arguments = {
            name: argument(name, value) for name, value in arguments.items() if value is not None
        }
        self._problems = Problems()
        self._origins: dict[tuple[str, ...], str] = {}

    def load(self) -> Policy:
        """Return the policy.

        Raises:
            ConfigError: With everything that is wrong in any of the sources.
        """
        file = self._file()
        made: dict[str, Any] = {
            name: self._section(kind, (name,), file.get(name)) for name, kind in SECTIONS.items()
        }
        made |= {name: self._table(name, file.get(name)) for name in TABLES}
        made["prices"] = self._prices(file.get("prices"))
        self._check_arguments()
        self._check_downgrade(made["ladder"])
        self._problems.tell()
        return Policy(**made, path=self._path, origins=self._origins)

    def _file(self) -> Mapping[str, Given]:
        if self._path is None:
            return {}
        with self._problems.gathered():
            return self._known(read_file(self._path, self._problems), KEYS, belongs=_SECTION_OF)
        return {}

    def _known(
        self, given: Given, names: Iterable[str], *, belongs: Mapping[str, str] = _NOWHERE
    ) -> Mapping[str, Given]:
        """Return the entries of a mapping that have a meaning; the others are problems."""
        known = {}
        for name, item in given.entries().items():
            with self._problems.gathered():
                if name not in names:
                    raise unknown(item, names, below=belongs.get(name, ""))
                known[name] = item
        return known

    def _section(self, kind: type[T], path: tuple[str, ...], given: Given | None) -> T:
        """Make one dataclass; only the sections of the file itself have variables and arguments."""
        items = fields(kind)  # type: ignore[arg-type]
        entries: Mapping[str, Given] = {}
        with self._problems.gathered():
            entries = self._known(given, [item.name for item in items]) if given else {}
        made: dict[str, Any] = {}
        for item in items:
            variable_name = item.metadata["variable"] if path[0] in SECTIONS else None
            sources = self._sources(item.name, variable_name, entries.get(item.name))
            made |= self._first((*path, item.name), item.metadata["parse"], sources)
        return kind(**made)

    def _sources(self, name: str, variable_name: str | None, given: Given | None) -> list[Given]:
        """Return what each source says of a setting, the strongest first."""
        if variable_name is None:
            return [given] if given else []
        said = (self._arguments.get(name), variable(variable_name, self._environ), given)
        return [source for source in said if source]

    def _first(
        self, path: tuple[str, ...], parse: Callable[[Given], Any], sources: list[Given]
    ) -> dict[str, Any]:
        """Return the value of the strongest source by its name; what a weaker one says must be sound too."""
        made: dict[str, Any] = {}
        for source in reversed(sources):
            with self._problems.gathered():
                made = {path[-1]: parse(source)}
                self._note(path, source)
        return made

    def _table(self, section: str, given: Given | None) -> dict[str, ExecutionLimits]:
        made: dict[str, ExecutionLimits] = {}
        for source in filter(None, (given, self._arguments.get(section))):
            with self._problems.gathered():
                made = {
                    name: self._section(ExecutionLimits, (section, name), item)
                    for name, item in source.entries().items()
                }
        return made

    def _prices(self, given: Given | None) -> tuple[Path, ...]:
        sources = self._sources("prices", PRICES_VARIABLE, given)
        found: tuple[Path, ...] = self._first(("prices",), values.paths, sources).get("prices", ())
        return found

    def _note(self, path: tuple[str, ...], given: Given) -> None:
        self._origins = {
            known: origin for known, origin in self._origins.items() if known[: len(path)] != path
        }
        self._origins[path] = given.origin
        if isinstance(given.value, dict):
            for name, item in given.value.items():
                self._note((*path, name), item)

    def _check_arguments(self) -> None:
        known = {*_SECTION_OF, *TABLES, "prices"}
        for name, given in self._arguments.items():
            if name not in known:
                with self._problems.gathered():
                    raise unknown(given, known)

    def _check_downgrade(self, ladder: Ladder) -> None:
        """A downgrade to nothing, or to the same model, is one that its author believes to have."""
        if ladder.downgrade_at_ratio is not None and not ladder.downgrade_to:
            place = self._origins.get(("ladder", "downgrade_at_ratio"))
            self._problems.found.append(
                f"{place}: downgrade_at_ratio needs downgrade_to; write for example {{gpt-5: gpt-5-mini}}"
            )
        for model, cheaper in ladder.downgrade_to.items():
            if model == cheaper:
                place = self._origins.get(("ladder", "downgrade_to", model)) or self._origins.get(
                    ("ladder", "downgrade_to")
                )
                self._problems.found.append(
                    f"{place}: {model!r} is downgraded to itself; write a cheaper one"
                )


def policy_path(path: str | Path | None, environ: Mapping[str, str]) -> Path | None:
    """Return the policy file to read: the one named, else `otel-cost.yaml` here, else None."""
    named = path or environ.get(POLICY_VARIABLE)
    if named:
        return Path(named)
    return Path(POLICY_NAME) if Path(POLICY_NAME).is_file() else None


def prices_in_file(environ: Mapping[str, str]) -> tuple[Path, ...]:
    """Return the price files that the policy file names, whatever else is in it.

    Raises:
        ConfigError: The file cannot be read, or they are not a list of files.
    """
    path = policy_path(None, environ)
    given = read_file(path, Problems()).entries().get("prices") if path else None
    return values.paths(given) if given else ()


def read_file(path: Path, problems: Problems) -> Given:
    """Return what stands in a YAML or JSON file, as text with lines; what is odd goes to `problems`.

    Raises:
        ConfigError: It cannot be read, or is not YAML.
    """
    import yaml

    try:
        root = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}); name a policy in YAML, or none") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        what = getattr(error, "problem", None) or getattr(error, "reason", error)
        raise ConfigError(f"{path}:{mark.line + 1 if mark else 1}: is not YAML: {what}") from None
    except RecursionError:
        raise ConfigError(f"{path}:1: is nested too deeply to be a policy") from None
    if root is None:
        return Given({}, "the policy", f"{path}:1")
    return _Tree(path, problems).given(root, "the policy", root.start_mark.line)


class _Tree:
    """Turns the nodes of a YAML document into what was given, each with the line of its key."""

    def __init__(self, path: Path, problems: Problems) -> None:
        self._path, self._problems = path, problems
        self._open = 0

    def given(self, node: Any, name: str, line: int) -> Given:
        """Return one node and what is in it.

        Raises:
            ConfigError: It is in itself, or deeper than any setting.
        """
        origin = f"{self._path}:{line + 1}"
        if self._open > MAX_DEPTH:
            raise ConfigError(f"{origin}: {name!r} is nested too deeply to be a policy")
        self._open += 1
        try:
            made: Any = node.value
            if node.id == "mapping":
                made = self._mapping(node)
            elif node.id == "sequence":
                made = [self.given(item, name, item.start_mark.line) for item in node.value]
        finally:
            self._open -= 1
        return Given(made, name, origin, f"{origin}: ", self._path.parent)

    def _mapping(self, node: Any) -> dict[str, Given]:
        made: dict[str, Given] = {}
        for key, value in node.value:
            line = key.start_mark.line
            with self._problems.gathered():
                name = self._name(key, made)
                made[name] = self.given(value, name, line)
        return made

    def _name(self, key: Any, made: Mapping[str, Given]) -> str:
        place = f"{self._path}:{key.start_mark.line + 1}"
        if key.id != "scalar":
            raise ConfigError(f"{place}: a name must be a text")
        name = str(key.value)
        if name in made:
            raise ConfigError(f"{place}: {name!r} stands here twice; the first is at {made[name].origin}")
        return name


def argument(name: str, value: Any, place: str = "") -> Given:
    """Return what a caller passed, as text: numbers by the shortest text that means them."""
    made: Any = value
    if isinstance(value, Mapping):
        made = {str(key): argument(str(key), item, f"{place}{name}: ") for key, item in value.items()}
    elif isinstance(value, list | tuple):
        made = [argument(name, item, place) for item in value]
    elif not isinstance(value, str):
        made = str(value)
    return Given(made, name, ARGUMENT, place)


def variable(name: str, environ: Mapping[str, str]) -> Given | None:
    """Return what a variable says; an empty one says nothing, as OpenTelemetry has it."""
    text = environ.get(name, "").strip()
    return Given(text, name, name) if text else None
