"""The values of a policy: what was given as text, where it stands, and what can be made of it.

A reader makes a value of its kind, or raises `ConfigError` with every problem of what it was given, each with
its file:line, variable or argument, so that none hides another.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import NamedTuple, TypeVar

from otel_cost.config import FALSE, TRUE
from otel_cost.errors import ConfigError

ARGUMENT = "argument"
OFF = "off"
EVERYONE = "*"

MAX_USD = Decimal(10) ** 12
"""An amount above it is a slip of the hand, and would not fit the columns it is reported in."""
MAX_FACTOR = 1_000_000
_COUNT = re.compile(r"[0-9][0-9_]{0,17}")
_NOTHING = frozenset({"", "~", "null"})
_WILD = re.compile(r"[*?\[]")

T = TypeVar("T")


class Given(NamedTuple):
    """A value somebody gave.

    Attributes:
        value: Text, a list, or a mapping; of the file, of a variable or of an argument.
        name: What it was given as: `budget_usd`, `OTEL_COST_BUDGET_USD`.
        origin: `otel-cost.yaml:4`, the variable, or `argument`.
        place: Where it stands, to begin a problem with; empty where its name says it.
        directory: What relative paths in it start from.
    """

    value: str | list[Given] | dict[str, Given]
    name: str
    origin: str
    place: str = ""
    directory: Path = Path()

    def problem(self, text: str) -> ConfigError:
        """Return the error that says what is wrong with this value, and where it stands."""
        shown = repr(self.value[:60]) if isinstance(self.value, str) else self._kind()
        return ConfigError(f"{self.place}{self.name}={shown} {text}")

    @property
    def is_variable(self) -> bool:
        """Whether it is the text of a variable, where lists and mappings are written in one line."""
        return self.origin == self.name

    def text(self, remedy: str) -> str:
        """Return the text that was given.

        Raises:
            ConfigError: It is a list or a mapping.
        """
        if not isinstance(self.value, str):
            raise self.problem(remedy)
        return self.value.strip()

    def entries(self) -> dict[str, Given]:
        """Return the mapping that was given; one without any lines is empty.

        Raises:
            ConfigError: It is something else.
        """
        if isinstance(self.value, str) and self.value.strip().lower() in _NOTHING:
            return {}
        if not isinstance(self.value, dict):
            raise self.problem("is not a mapping; write `name: value` lines below it")
        return self.value

    def _kind(self) -> str:
        return "a list" if isinstance(self.value, list) else "a mapping"


class Problems:
    """Gathers what is wrong, to tell all of it at once."""

    def __init__(self) -> None:
        self.found: list[str] = []

    @contextmanager
    def gathered(self) -> Iterator[None]:
        """Keep the problems that are raised inside, and go on."""
        try:
            yield
        except ConfigError as error:
            self.found.extend(error.problems)

    def tell(self) -> None:
        """Raise the `ConfigError` of everything gathered, if anything was; what came twice is told once."""
        if self.found:
            raise ConfigError(dict.fromkeys(self.found))


def unknown(given: Given, known: Iterable[str], *, below: str = "") -> ConfigError:
    """Return the error for a name that nothing has here, with the one that was probably meant.

    Args:
        below: The section that the name does belong to.
    """
    import difflib

    names = sorted(known)
    close = difflib.get_close_matches(given.name, names, 1)
    remedy = f"did you mean {close[0]!r}?" if close else f"write one of {', '.join(names)}"
    if below:
        remedy = f"write it below `{below}:`"
    return ConfigError(f"{given.place}{given.name!r} is not known here; {remedy}")


def amount_usd(given: Given) -> Decimal:
    """Read an amount of USD, 0 or more."""
    remedy = "is not a number of USD; write 10 or 10.00"
    usd = _number(given, remedy)
    if not 0 <= usd <= MAX_USD:
        raise given.problem(remedy)
    return usd


def count(given: Given) -> int:
    """Read a whole number, 0 or more."""
    remedy = "is not a whole number; write for example 100"
    text = given.text(remedy)
    if not _COUNT.fullmatch(text):
        raise given.problem(remedy)
    return int(text)


def positive_count(given: Given) -> int:
    """Read a whole number above 0."""
    number = count(given)
    if not number:
        raise given.problem(f"is not above 0; write 1 or more, or `{OFF}`")
    return number


def seconds(given: Given) -> float:
    """Read a time in seconds, above 0 and below a year."""
    remedy = "is not a number of seconds above 0; write for example 600"
    number = _number(given, remedy)
    if not 0 < number < 366 * 24 * 3600:
        raise given.problem(remedy)
    return float(number)


def waiting_s(given: Given) -> float:
    """Read a time in seconds that may be 0: not to wait at all."""
    remedy = "is not a number of seconds; write 0 to 3600"
    number = _number(given, remedy)
    if not 0 <= number <= 3600:
        raise given.problem(remedy)
    return float(number)


def ratio(given: Given) -> float:
    """Read a ratio above 0, up to 1."""
    remedy = "is not a ratio; write 0.8 for 80 %"
    number = _number(given, remedy)
    if not 0 < number <= 1:
        raise given.problem(remedy)
    return float(number)


def threshold(given: Given) -> float:
    """Read a number above 0."""
    remedy = "is not a number above 0; write for example 3"
    number = _number(given, remedy)
    if not 0 < number <= MAX_USD:
        raise given.problem(remedy)
    return float(number)


def factor(given: Given) -> Decimal:
    """Read how many times, 2 or more, exactly."""
    remedy = "is not a number of times; write 2 or more, for example 10"
    number = _number(given, remedy)
    if not 2 <= number <= MAX_FACTOR:
        raise given.problem(remedy)
    return number


def switch(given: Given) -> bool:
    """Read true or false."""
    text = given.text("is not a switch; write true or false").lower()
    if text not in TRUE | FALSE or not text:
        raise given.problem("is not a switch; write true or false")
    return text in TRUE


def word(given: Given) -> str:
    """Read a text that is not empty."""
    text = given.text("is not a text; write one on the same line")
    if text.lower() in _NOTHING:
        raise given.problem("is empty; write a name")
    return text


def time_zone(given: Given) -> str:
    """Read the name of a time zone, which this machine must know."""
    from zoneinfo import ZoneInfo

    remedy = "is not a time zone this machine knows; write for example Europe/Berlin, or UTC"
    name = given.text(remedy)
    try:
        return name if name == "UTC" else ZoneInfo(name).key
    except (ValueError, OSError, KeyError):
        raise given.problem(remedy) from None


def one_of(*words: str) -> Callable[[Given], str]:
    """Return the reader of a choice."""

    def read(given: Given) -> str:
        text = given.text(f"is none of the choices; write {', '.join(words)}").lower()
        if text not in words:
            raise given.problem(f"is none of the choices; write {', '.join(words)}")
        return text

    return read


def optional(read: Callable[[Given], T]) -> Callable[[Given], T | None]:
    """Return the reader of a value that may also be `off`, which is None."""

    def read_optional(given: Given) -> T | None:
        if isinstance(given.value, str) and given.value.strip().lower() == OFF:
            return None
        return read(given)

    return read_optional


def by_name(read: Callable[[Given], T], *, names: Iterable[str] = ()) -> Callable[[Given], dict[str, T]]:
    """Return the reader of one value for each name; with `names`, of no other.

    In a variable they are written `name=value,other=value`.
    """
    allowed = tuple(names)

    def read_all(given: Given) -> dict[str, T]:
        made: dict[str, T] = {}
        problems = Problems()
        for name, item in _pairs(given).items():
            with problems.gathered():
                if allowed and name not in allowed:
                    raise unknown(item, allowed)
                made[name] = read(item)
        problems.tell()
        return made

    return read_all


def for_each(read: Callable[[Given], T]) -> Callable[[Given], dict[str, T]]:
    """Return the reader of one value for each name, or of a single one for everybody: `*`."""
    read_all = by_name(read)

    def read_each(given: Given) -> dict[str, T]:
        is_single = isinstance(given.value, str) and "=" not in given.value
        return {EVERYONE: read(given)} if is_single else read_all(given)

    return read_each


def per_organization(read: Callable[[Given], T]) -> Callable[[Given], dict[str, T]]:
    """Return the reader of one value for each organization by its name, and `*` for all others."""
    read_each = for_each(read)

    def read_named(given: Given) -> dict[str, T]:
        values = read_each(given)
        for name in values:
            if name != EVERYONE and is_pattern(name):
                raise ConfigError(
                    f"{given.place}{given.name}: {name!r} is a pattern; "
                    "write an organization's name, or '*' for others"
                )
        return values

    return read_named


def per_tool(given: Given) -> dict[str, int | None]:
    """Read calls for each tool by its name, and `*` for each of the others."""
    limits = for_each(optional(count))(given)
    for name in limits:
        if name != EVERYONE and is_pattern(name):
            raise ConfigError(
                f"{given.place}{given.name}: {name!r} is a pattern; write a tool's name, or '*' for others"
            )
    return limits


def is_pattern(name: str) -> bool:
    """Whether a name stands for others: `gpt-5*`."""
    return _WILD.search(name) is not None


def paths(given: Given) -> tuple[Path, ...]:
    """Read a list of files; in a variable they are separated like PATH. A file's are relative to itself."""
    if isinstance(given.value, str) and given.is_variable:
        return tuple(Path(part) for part in given.value.split(os.pathsep) if part)
    if isinstance(given.value, str) and given.value.strip() in _NOTHING:
        return ()
    items = given.value if isinstance(given.value, list) else [given]
    problems, made = Problems(), []
    for item in items:
        with problems.gathered():
            made.append(item.directory / word(item))
    problems.tell()
    return tuple(made)


def _pairs(given: Given) -> dict[str, Given]:
    if not isinstance(given.value, str) or not given.is_variable:
        return given.entries()
    made = {}
    for part in given.value.split(","):
        name, mark, text = (piece.strip() for piece in part.partition("="))
        if not mark or not name or name in made:
            raise given.problem("is not a list of names with values; write name=value,other=value")
        made[name] = Given(text, name, given.origin, f"{given.name}: ")
    return made


def _number(given: Given, remedy: str) -> Decimal:
    text = given.text(remedy).replace("_", "")
    try:
        number = Decimal(text)
    except InvalidOperation:
        raise given.problem(remedy) from None
    if not number.is_finite():
        raise given.problem(remedy)
    return number
