"""Find the SQL files, in an installed wheel or in a checkout."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

from otel_cost.errors import ConfigError

_PACKAGE = Path(__file__).resolve().parent.parent
_NAME = re.compile(r"[a-z0-9_]+")


@lru_cache(maxsize=1)
def sql_root() -> Path:
    """Return the directory of migrations/, views/ and queries/: in the package, else beside it."""
    for root in (_PACKAGE / "clickhouse", _PACKAGE.parent / "clickhouse"):
        if (root / "migrations").is_dir():
            return root
    raise ConfigError(
        f"the SQL files of otel-cost are not at {_PACKAGE / 'clickhouse'}; install otel-cost again"
    )


def sql_files(folder: str) -> list[Path]:
    """Return the SQL files of `migrations`, `views` or `queries`, by name."""
    return sorted((sql_root() / folder).glob("*.sql"))


@lru_cache(maxsize=256)
def named_sql(folder: str, name: str) -> str:
    """Return the text of one SQL file.

    Raises:
        ConfigError: There is no file of that name.
    """
    path = sql_root() / folder / f"{name}.sql"
    if not _NAME.fullmatch(name) or not path.is_file():
        known = ", ".join(file.stem for file in sql_files(folder))
        raise ConfigError(f"{name!r} is no file of clickhouse/{folder}; there are {known}")
    return path.read_text(encoding="utf-8")


def statements(text: str) -> list[str]:
    """Split a file into its statements. Semicolons end statements and stand nowhere else."""
    bare = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("--"))
    return [statement.strip() for statement in bare.split(";") if statement.strip()]
