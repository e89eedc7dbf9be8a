"""Which processes are alive, and which directory is one's own: what a ledger that is shared relies on."""

from __future__ import annotations

import os
import stat
import tempfile
from functools import lru_cache
from pathlib import Path

from otel_cost.errors import ConfigError

DIRECTORY = "otel-cost"


@lru_cache(maxsize=1)
def _namespace() -> str:
    """Return which processes this one can see: a container has numbers of its own."""
    try:
        return str(os.stat("/proc/self/ns/pid").st_ino)
    except OSError:
        return "0"


def name_of(pid: int) -> str:
    """Return what tells a process from a later one with the same number: `<number>-<start>-<namespace>`."""
    found = _state_and_start(pid)
    return f"{pid}-{found[1] if found else ''}-{_namespace()}"


def is_alive(name: str) -> bool:
    """Return whether a process still runs. One that cannot be seen from here is taken to."""
    pid, start, namespace = name.split("-")
    if namespace != _namespace() or os.name != "posix":
        return True
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    found = _state_and_start(int(pid))
    return found is None or (found[0] not in "ZX" and found[1] == start)


def _state_and_start(pid: int) -> tuple[str, str] | None:
    """Return a process's state and start, in ticks since boot (proc_pid_stat(5)); None where unknown."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    fields = text[text.rindex(")") + 2 :].split()
    return fields[0], fields[19]


def own_directory() -> Path:
    """Return the directory for this user's ledgers, which nobody else can look into; make it if need be.

    It is `$XDG_RUNTIME_DIR/otel-cost`, else `otel-cost-<uid>` where temporary files go.

    Raises:
        ConfigError: Somebody else could write there.
    """
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if runtime and os.access(runtime, os.W_OK):
        directory = Path(runtime) / DIRECTORY
    else:
        directory = Path(tempfile.gettempdir()) / f"{DIRECTORY}-{_uid()}"
    directory.mkdir(mode=0o700, exist_ok=True)
    check_is_own(directory)
    return directory


def check_is_own(directory: Path) -> None:
    """Make sure that a directory is this user's, and closed to others.

    Raises:
        ConfigError: It is not.
    """
    try:
        found = os.lstat(directory)
    except OSError as error:
        what = f"{directory} cannot hold a ledger ({error.strerror}); make it with mode 0700"
        raise ConfigError(what) from None
    if not stat.S_ISDIR(found.st_mode):
        raise ConfigError(f"{directory} is not a directory, so no ledger is kept in it; remove it")
    if os.name == "posix" and (found.st_uid != _uid() or found.st_mode & 0o077):
        raise ConfigError(
            f"{directory} belongs to user {found.st_uid} and has mode {found.st_mode & 0o777:04o}; a ledger "
            f"must be in a directory of user {_uid()} with mode 0700: chmod 700 it, or name another"
        )


def _uid() -> int:
    return os.geteuid() if hasattr(os, "geteuid") else 0
