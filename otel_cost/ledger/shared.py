"""A ledger in memory as long as one process spends, and in a file for what other processes spend too.

A scope moves to the file, with its holds, when a child process is started that may spend from it. Others stay
in memory, where a call costs a microsecond.
"""

from __future__ import annotations

import atexit
import os
import secrets
import threading
import time
import weakref
from contextlib import suppress
from pathlib import Path

from otel_cost.containment import contained
from otel_cost.ledger import Balance, Hold, Refusal, Tallying
from otel_cost.ledger.memory import MemoryLedger, Moved
from otel_cost.ledger.owners import own_directory
from otel_cost.ledger.sqlite import SqliteLedger

SUFFIX = ".ledger"
MIN_AGE_S = 3_600.0
"""A file younger than this is not swept away, whoever seems to be gone."""
MAX_AGE_S = 604_800.0
"""One that nobody wrote to for so long is: processes of another container always seem to be there."""


class SharedLedger:
    """Keeps scopes in memory until they are shared.

    Args:
        memory: Where scopes begin.
    """

    def __init__(self, memory: MemoryLedger | None = None) -> None:
        self.memory = MemoryLedger() if memory is None else memory
        self._files: dict[Path, SqliteLedger] = {}
        self._lock = threading.RLock()
        _ledgers.add(self)

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files in which something is shared."""
        return tuple(self._files)

    def share(self, scope: str, *, even_unlimited: bool = False) -> Path | None:
        """Let other processes spend from a scope.

        Args:
            even_unlimited: Where nothing limits the scope, there is still what its processes count.

        Returns:
            The file that they join; None where nothing limits the scope, and it is not shared.
        """
        found = self.memory.move(scope, self._file, even_unlimited=even_unlimited)
        return found.path if isinstance(found, SqliteLedger) else None

    def join(self, path: Path, scope: str) -> None:
        """Spend from a scope that another process shares.

        Raises:
            ConfigError: The file is not there, or cannot be trusted.
        """
        with self._lock:
            if path not in self._files:
                self._files[path] = SqliteLedger(path, must_exist=True)
                _own.add(self._files[path])
        self.memory.leave(scope, self._files[path])

    def expect(self, pid: int) -> None:
        """Keep the files for a child process that was started and is going to join."""
        for file in self._files.values():
            file.expect(pid)

    def open(self, scope: str, limit_picousd: int | None, within: str = "") -> None:
        """Begin a scope, inside another one or none. One that is open stays as it is."""
        try:
            self.memory.open(scope, limit_picousd, within)
        except Moved as moved:
            moved.ledger.open(scope, limit_picousd, within)

    def limit(self, scope: str, limit_picousd: int | None) -> None:
        """Change the limit of a scope, as after an approval; what it has spent stays."""
        try:
            self.memory.limit(scope, limit_picousd)
        except Moved as moved:
            moved.ledger.limit(scope, limit_picousd)

    def reserve(self, scope: str, amount_picousd: int, *, owner: str = "") -> Hold | Refusal:
        """Hold an amount in a scope and all scopes around it, or say which of them has too little left.

        Raises:
            ValueError: The amount is negative.
        """
        try:
            return self.memory.reserve(scope, amount_picousd, owner=owner)
        except Moved as moved:
            return moved.ledger.reserve(scope, amount_picousd, owner=owner)

    def settle(self, hold: Hold, actual_picousd: int) -> bool:
        """Replace a hold by what was spent. Returns False, and changes nothing, when it was closed before.

        Raises:
            ValueError: The amount is negative.
        """
        try:
            if self.memory.settle(hold, actual_picousd):
                return True
        except Moved as moved:
            hold = moved.hold or hold
        return any(file.settle(hold, actual_picousd) for file in self._files.values())

    def release(self, hold: Hold) -> bool:
        """Give a hold back. Returns False, and changes nothing, when it was closed before."""
        return self.settle(hold, 0)

    def spend(self, scope: str, amount_picousd: int) -> None:
        """Add what was spent without a hold. It counts even where it passes the limit."""
        try:
            self.memory.spend(scope, amount_picousd)
        except Moved as moved:
            moved.ledger.spend(scope, amount_picousd)

    def balance(self, scope: str) -> Balance:
        """Return how a scope stands; an unknown one has spent nothing."""
        try:
            return self.memory.balance(scope)
        except Moved as moved:
            return moved.ledger.balance(scope)

    def shared_in(self, scope: str) -> Tallying | None:
        """Return the file that a scope is in; None while it is in memory."""
        return self.memory.shared_in(scope)

    @property
    def open_holds(self) -> int:
        """Holds that are neither closed nor expired, those of other processes included."""
        return self.memory.open_holds + sum(file.open_holds for file in self._files.values())

    def _file(self) -> SqliteLedger:
        """Return the file that scopes of this process move to: one it joined, else one of its own."""
        with self._lock:
            if not self._files:
                directory = own_directory()
                with contained("remove old ledgers"):
                    sweep(directory)
                path = directory / f"{os.getpid()}-{secrets.token_hex(8)}{SUFFIX}"
                self._files[path] = SqliteLedger(path)
                _own.add(self._files[path])
            return next(iter(self._files.values()))


def sweep(directory: Path) -> None:
    """Remove ledgers that processes left behind which no longer run."""
    now = time.time()
    for path in directory.glob(f"*-*{SUFFIX}"):
        with contained("remove an old ledger"):
            age_s = now - max(each.stat().st_mtime for each in _parts(path) if each.exists())
            if age_s > MAX_AGE_S or (age_s > MIN_AGE_S and not _is_in_use(path)):
                remove(path)


def _is_in_use(path: Path) -> bool:
    ledger = SqliteLedger(path, must_exist=True)
    try:
        return ledger.is_in_use()
    finally:
        ledger.close()


def remove(path: Path) -> None:
    """Remove a ledger's files."""
    for part in _parts(path):
        with suppress(FileNotFoundError):
            part.unlink()


def _parts(path: Path) -> tuple[Path, ...]:
    return (path, path.with_name(path.name + "-wal"), path.with_name(path.name + "-shm"))


_own: set[SqliteLedger] = set()
"""Those this process made or joined."""


def _leave_files() -> None:
    """Remove the files that no other process uses. Spawned processes and the last one come here too."""
    while _own:
        with contained("leave a ledger"):
            ledger = _own.pop()
            is_in_use = ledger.is_in_use()
            ledger.close()
            if not is_in_use:
                remove(ledger.path)


def _renew_locks() -> None:
    for ledger in list(_ledgers):
        ledger._lock = threading.RLock()


_ledgers: weakref.WeakSet[SharedLedger] = weakref.WeakSet()
atexit.register(_leave_files)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_locks)
