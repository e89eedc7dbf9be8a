"""A ledger in a file that the processes of one machine share, exact under all of them.

Each step is one transaction, so a process that is killed leaves no half of one. What it held counts as spent
as soon as anybody looks: the provider may bill for it.
"""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from otel_cost.containment import count
from otel_cost.errors import ConfigError
from otel_cost.ledger import CLOSED, Balance, Busy, Hold, Refusal, Tally
from otel_cost.ledger.memory import HOLD_TTL_S, MAX_SCOPES, check_amount
from otel_cost.ledger.owners import check_is_own, is_alive, name_of

SCOPE_TTL_S = 86_400.0
"""How long a scope that nobody uses is kept: a day is longer than an agent runs."""
BUSY_S = 0.2
"""How long a step waits for those of other processes, each of which takes well under a millisecond. An event
loop stands still meanwhile, so that whoever can wait in another way does the rest of it."""
PATIENCE_S, PAUSE_S = 5.0, 0.02
"""How long a step waits, with pauses, that nobody repeats: of a process that starts, or is started."""
SWEEP_S = 0.5
"""How often somebody who only asks for a balance looks for owners that died. A refusal always does."""
SCOPES_PER_PURGE = 256
MAX_COUNTS = 256
"""Names counted of one execution; what comes after them is not."""
FORK_WAIT_S = 5.0
"""How long a fork waits for a step of another thread; a signal handler that forks would wait for itself."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS scopes (
    scope TEXT PRIMARY KEY,
    around TEXT NOT NULL,
    limit_picousd TEXT,
    settled_picousd TEXT NOT NULL,
    reserved_picousd TEXT NOT NULL,
    touched_at_s REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS holds (
    hold INTEGER PRIMARY KEY,
    scope TEXT NOT NULL,
    amount_picousd TEXT NOT NULL,
    owner TEXT NOT NULL,
    process TEXT NOT NULL,
    expires_at_s REAL NOT NULL,
    is_open INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS processes (process TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS executions (
    execution_id TEXT PRIMARY KEY,
    began_at_s REAL NOT NULL,
    touched_at_s REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS counts (
    execution_id TEXT NOT NULL,
    name TEXT NOT NULL,
    count TEXT NOT NULL,
    PRIMARY KEY (execution_id, name)
) WITHOUT ROWID;
"""
# Amounts are decimal text: an INTEGER of SQLite ends at 9.2 million USD in pico-dollars, and then is a float.
# So are counts, of which one is an amount.
_READ_SCOPE = "SELECT around, limit_picousd, settled_picousd, reserved_picousd FROM scopes WHERE scope = ?"
_ADD_SCOPE = "INSERT INTO scopes VALUES (?, ?, ?, ?, ?, ?)"
_SET_SCOPE = "UPDATE scopes SET settled_picousd = ?, reserved_picousd = ?, touched_at_s = ? WHERE scope = ?"
_SET_LIMIT = "UPDATE scopes SET limit_picousd = ?, touched_at_s = ? WHERE scope = ?"
_ADD_HOLD = "INSERT INTO holds VALUES (?, ?, ?, ?, ?, ?, 1)"
_READ_HOLD = "SELECT is_open FROM holds WHERE hold = ?"
_SET_EXECUTION = """
    INSERT INTO executions VALUES (?, ?, ?) ON CONFLICT (execution_id) DO UPDATE SET
        began_at_s = min(began_at_s, excluded.began_at_s), touched_at_s = excluded.touched_at_s
"""
_READ_EXECUTION = "SELECT began_at_s FROM executions WHERE execution_id = ?"
_READ_COUNTS = "SELECT name, count FROM counts WHERE execution_id = ?"
_SET_COUNT = "INSERT OR REPLACE INTO counts VALUES (?, ?, ?)"
_UNUSED = """
    NOT EXISTS (SELECT 1 FROM holds WHERE holds.scope = scopes.scope AND is_open)
    AND NOT EXISTS (SELECT 1 FROM scopes AS inside WHERE inside.around = scopes.scope)
"""
_PURGE_OLD = f"DELETE FROM scopes WHERE touched_at_s < ? AND {_UNUSED}"  # noqa: S608 (constants only)
_PURGE_MANY = f"""
    DELETE FROM scopes WHERE scope IN (
        SELECT scope FROM scopes WHERE {_UNUSED} ORDER BY touched_at_s
        LIMIT max(0, (SELECT count(*) FROM scopes) - ?)
    )
"""  # noqa: S608 (constants only)

_PURGE_EXECUTIONS = """
    DELETE FROM executions WHERE touched_at_s < ? OR execution_id IN (
        SELECT execution_id FROM executions ORDER BY touched_at_s
        LIMIT max(0, (SELECT count(*) FROM executions) - ?)
    )
"""
_PURGE_COUNTS = "DELETE FROM counts WHERE execution_id NOT IN (SELECT execution_id FROM executions)"


class _Row(NamedTuple):
    scope: str
    around: str
    balance: Balance


@dataclass(slots=True, eq=False)
class _Held(Hold):
    number: int = 0
    pid: int = 0
    path: Path = Path()


class SqliteLedger:
    """Keeps scopes and holds in a file.

    Args:
        path: The file; it must be in a directory of this user that is closed to others.
        must_exist: Do not make the file.
        hold_ttl_s: Seconds until a hold that nobody settled counts as spent.
        scope_ttl_s: Seconds that a scope is kept without being used.
        max_scopes: Scopes kept at most, but for those in use.
        clock: Seconds, the same for every process.

    Attributes:
        expired_holds: Holds this object found that nobody had settled in time, or whose process died.

    Raises:
        ConfigError: The file cannot be trusted, or is not there.
    """

    def __init__(
        self,
        path: Path,
        *,
        must_exist: bool = False,
        hold_ttl_s: float = HOLD_TTL_S,
        scope_ttl_s: float = SCOPE_TTL_S,
        max_scopes: int = MAX_SCOPES,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.path, self.expired_holds = path, 0
        self._hold_ttl_s, self._scope_ttl_s, self._max_scopes = hold_ttl_s, scope_ttl_s, max_scopes
        self._clock, self._swept_at, self._added = clock, -SWEEP_S, 0
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._process, self._pid = "", 0
        self._is_writing = False
        self._late: list[Callable[[sqlite3.Connection], object]] = []
        _make(path, must_exist=must_exist)
        with self._transaction(PATIENCE_S) as db:
            self._purge(db, clock())
        _ledgers.add(self)

    def open(self, scope: str, limit_picousd: int | None, within: str = "") -> None:
        """Begin a scope, inside another one or none. One that is open stays as it is."""
        with self._lock:
            if self._connect().execute(_READ_SCOPE, (scope,)).fetchone():
                return
        with self._transaction() as db:
            if within:
                self._row(db, within)
            if not db.execute(_READ_SCOPE, (scope,)).fetchone():
                self._add(db, scope, within, Balance(limit_picousd, 0, 0))

    def limit(self, scope: str, limit_picousd: int | None) -> None:
        """Change the limit of a scope, as after an approval; what it has spent stays."""
        with self._transaction(PATIENCE_S) as db:
            self._row(db, scope)
            db.execute(_SET_LIMIT, (_text(limit_picousd), self._clock(), scope))

    def reserve(self, scope: str, amount_picousd: int, *, owner: str = "") -> Hold | Refusal:
        """Hold an amount in a scope and all scopes around it, or say which of them has too little left.

        Raises:
            ValueError: The amount is negative.
            Busy: Others are writing to the file.
        """
        check_amount(amount_picousd)
        now = self._clock()
        with self._transaction() as db:
            chain = self._chain(db, scope)
            if _refusing(chain, amount_picousd) is not None:
                if self._sweep(db, now):
                    chain = self._chain(db, scope)
                refusing = _refusing(chain, amount_picousd)
                if refusing is not None:
                    return Refusal(refusing.scope, refusing.balance, amount_picousd)
            self._change(db, chain, 0, amount_picousd)
            return self._hold(db, scope, amount_picousd, owner, now + self._hold_ttl_s)

    def settle(self, hold: Hold, actual_picousd: int) -> bool:
        """Replace a hold by what was spent. Returns False, and changes nothing, when it was closed before.

        A forked child closes none of its parent's. While others are writing to the file it is put off until
        the file is used next; a hold that nobody comes back for counts as spent.

        Raises:
            ValueError: The amount is negative.
        """
        check_amount(actual_picousd)
        if not isinstance(hold, _Held) or hold.state == CLOSED or hold.pid != os.getpid():
            return False
        if hold.path != self.path:
            return False
        is_closed = self._now_or_later(lambda db: self._close(db, hold, actual_picousd))
        if is_closed:
            hold.state = CLOSED
        return is_closed

    def release(self, hold: Hold) -> bool:
        """Give a hold back. Returns False, and changes nothing, when it was closed before."""
        return self.settle(hold, 0)

    def spend(self, scope: str, amount_picousd: int) -> None:
        """Add what was spent without a hold. It counts even where it passes the limit."""
        check_amount(amount_picousd)
        self._now_or_later(lambda db: self._add_spent(db, scope, amount_picousd))

    def balance(self, scope: str) -> Balance:
        """Return how a scope stands; an unknown one has spent nothing."""
        now = self._clock()
        with self._lock:
            found = self._read(self._connect(), scope)
        if found is None:
            return Balance(None, 0, 0)
        is_swept = not found.balance.reserved_picousd or abs(now - self._swept_at) < SWEEP_S
        if is_swept and not self._late:
            return found.balance
        with suppress(Busy), self._transaction() as db:
            self._sweep(db, now)
            found = self._read(db, scope) or found
        return found.balance

    def shared_in(self, scope: str) -> SqliteLedger:
        """Return this: other processes may share any scope of a file."""
        return self

    def tally(self, execution_id: str, age_s: float, counts: Mapping[str, int]) -> Tally:
        """Add what one process of an execution did. Returns what all of them did."""
        now = self._clock()
        with self._transaction() as db:
            db.execute(_SET_EXECUTION, (execution_id, now - age_s, now))
            ((began_at_s,),) = db.execute(_READ_EXECUTION, (execution_id,))
            total = {name: int(known) for name, known in db.execute(_READ_COUNTS, (execution_id,))}
            for name, more in counts.items():
                if more and (name in total or len(total) < MAX_COUNTS):
                    total[name] = total.get(name, 0) + more
                    db.execute(_SET_COUNT, (execution_id, name, str(total[name])))
        return Tally(max(age_s, now - began_at_s), total)

    @property
    def open_holds(self) -> int:
        """Holds of all processes that are neither closed nor expired."""
        with self._transaction() as db:
            self._sweep(db, self._clock())
            return int(db.execute("SELECT count(*) FROM holds WHERE is_open").fetchone()[0])

    def __len__(self) -> int:
        with self._lock:
            return int(self._connect().execute("SELECT count(*) FROM scopes").fetchone()[0])

    def put(self, scopes: Sequence[tuple[str, str, Balance]], holds: Sequence[Hold]) -> list[Hold]:
        """Take over scopes, outer ones first, and the open holds of this process that their balances include.

        Returns:
            The holds as they are here. They last as long as new ones do.
        """
        expires_at_s = self._clock() + self._hold_ttl_s
        with self._transaction(PATIENCE_S) as db:
            for scope, around, balance in scopes:
                known = self._read(db, scope)
                if known is None:
                    self._add(db, scope, around, balance)
                else:
                    self._change(db, [known], balance.settled_picousd, balance.reserved_picousd)
            return [
                self._hold(db, hold.scope, hold.amount_picousd, hold.owner, expires_at_s) for hold in holds
            ]

    def expect(self, pid: int) -> None:
        """Keep the file for a process that was started and is going to open it."""
        with self._transaction(PATIENCE_S) as db:
            db.execute("INSERT OR IGNORE INTO processes VALUES (?)", (name_of(pid),))

    def is_in_use(self) -> bool:
        """Return whether some other process that lives has opened the file, or is going to."""
        with self._lock:
            found = self._connect().execute("SELECT process FROM processes").fetchall()
        return any(name != self._process and is_alive(name) for (name,) in found)

    def close(self) -> None:
        """Close the file. What follows opens it again."""
        if self._late:
            with suppress(Busy), self._transaction():
                pass
        with self._lock:
            self._disconnect()

    def __del__(self) -> None:
        """Close the file."""
        if hasattr(self, "_connection"):
            self._disconnect()

    # --- inside a transaction -----------------------------------------------------------------------------

    @contextmanager
    def _transaction(self, patience_s: float = 0) -> Iterator[sqlite3.Connection]:
        """Begin a step, after those that were put off.

        Raises:
            Busy: Others write to the file, or this thread does: the garbage collector ends calls anywhere.
        """
        with self._lock:
            db, late = self._begin(patience_s), self._late
            self._is_writing, self._late = True, []
            try:
                for do in late:
                    do(db)
                yield db
                db.execute("COMMIT")
            except BaseException:
                self._late = [*late, *self._late]
                with suppress(sqlite3.Error):
                    db.execute("ROLLBACK")
                raise
            finally:
                self._is_writing = False

    def _begin(self, patience_s: float) -> sqlite3.Connection:
        if self._is_writing:
            raise Busy("this thread is writing to the ledger")
        deadline = time.monotonic() + patience_s
        while True:
            try:
                db = self._connect()
                with _telling_busy():
                    db.execute("BEGIN IMMEDIATE")
                return db
            except Busy:
                if time.monotonic() >= deadline:
                    raise
            time.sleep(PAUSE_S)

    def _now_or_later(self, do: Callable[[sqlite3.Connection], bool]) -> bool:
        """Do what must not be lost; while others write to the file, put it off until it is used next."""
        try:
            with self._transaction() as db:
                return do(db)
        except Busy as busy:
            self._late.append(do)
            count("write to the shared ledger at once, so it is done later", busy)
            return True

    def _close(self, db: sqlite3.Connection, hold: _Held, actual_picousd: int) -> bool:
        found = db.execute(_READ_HOLD, (hold.number,)).fetchone()
        if found is None:
            return False
        db.execute("DELETE FROM holds WHERE hold = ?", (hold.number,))
        chain, amount = self._chain(db, hold.scope), hold.amount_picousd
        if found[0]:
            self._change(db, chain, actual_picousd, -amount)
        else:
            self._change(db, chain, actual_picousd - amount, 0)
        return True

    def _add_spent(self, db: sqlite3.Connection, scope: str, amount_picousd: int) -> bool:
        self._change(db, self._chain(db, scope), amount_picousd, 0)
        return True

    def _connect(self) -> sqlite3.Connection:
        db = self._connection
        if db is not None and self._pid == os.getpid():
            if db.in_transaction and not self._is_writing:  # an interrupt between two statements left it open
                db.execute("ROLLBACK")
            return db
        db = sqlite3.connect(
            f"{self.path.absolute().as_uri()}?mode=rw",
            uri=True,
            timeout=BUSY_S,
            isolation_level=None,
            check_same_thread=False,
        )
        process = name_of(os.getpid())
        try:
            self._set_up(db, process)
        except BaseException:
            db.close()
            raise
        self._connection, self._pid, self._process = db, os.getpid(), process
        return db

    def _set_up(self, db: sqlite3.Connection, process: str) -> None:
        with _telling_busy():
            # A process that is killed loses nothing by it, and agents end with their machine.
            db.execute("PRAGMA synchronous = OFF")
            db.execute("PRAGMA journal_mode = WAL")
            db.executescript(_SCHEMA)
            db.execute("INSERT OR IGNORE INTO processes VALUES (?)", (process,))

    def _disconnect(self) -> None:
        db, self._connection = self._connection, None
        if db is not None and self._pid == os.getpid():
            db.close()

    def _read(self, db: sqlite3.Connection, scope: str) -> _Row | None:
        found = db.execute(_READ_SCOPE, (scope,)).fetchone()
        if found is None:
            return None
        around, limit, settled, reserved = found
        return _Row(
            scope, around, Balance(None if limit is None else int(limit), int(settled), int(reserved))
        )

    def _row(self, db: sqlite3.Connection, scope: str) -> _Row:
        return self._read(db, scope) or self._add(db, scope, "", Balance(None, 0, 0))

    def _chain(self, db: sqlite3.Connection, scope: str) -> list[_Row]:
        """Return a scope and those around it, the inner ones first."""
        chain = [self._row(db, scope)]
        while chain[-1].around:
            chain.append(self._row(db, chain[-1].around))
        return chain

    def _add(self, db: sqlite3.Connection, scope: str, around: str, balance: Balance) -> _Row:
        now, (limit, settled, reserved) = self._clock(), balance
        db.execute(_ADD_SCOPE, (scope, around, _text(limit), str(settled), str(reserved), now))
        self._added += 1
        if self._added % SCOPES_PER_PURGE == 0:
            self._purge(db, now)
        return _Row(scope, around, balance)

    def _change(self, db: sqlite3.Connection, chain: Sequence[_Row], settled: int, reserved: int) -> None:
        now = self._clock()
        for scope, _, balance in chain:
            values = (str(balance.settled_picousd + settled), str(balance.reserved_picousd + reserved))
            db.execute(_SET_SCOPE, (*values, now, scope))

    def _hold(self, db: sqlite3.Connection, scope: str, amount: int, owner: str, expires_at_s: float) -> Hold:
        # Never the number of an earlier hold, which somebody may still want to settle.
        number = int.from_bytes(os.urandom(8), "big") >> 1
        db.execute(_ADD_HOLD, (number, scope, str(amount), owner, self._process, expires_at_s))
        return _Held(scope, amount, owner, expires_at_s, number=number, pid=self._pid, path=self.path)

    def _sweep(self, db: sqlite3.Connection, now: float) -> int:
        """Count as spent what expired and what processes held that died. Returns how many holds that were."""
        self._swept_at = now
        holds = db.execute(
            "SELECT hold, scope, amount_picousd, process, expires_at_s FROM holds WHERE is_open"
        ).fetchall()
        dead = {name for name in {hold[3] for hold in holds} - {self._process} if not is_alive(name)}
        lost = [hold for hold in holds if hold[4] <= now or hold[3] in dead]
        for number, scope, amount, _, _ in lost:
            self._change(db, self._chain(db, scope), int(amount), -int(amount))
            db.execute("UPDATE holds SET is_open = 0 WHERE hold = ?", (number,))
        self.expired_holds += len(lost)
        return len(lost)

    def _purge(self, db: sqlite3.Connection, now: float) -> None:
        """Forget scopes that are old and not used, and holds and processes that are gone."""
        self._sweep(db, now)
        db.execute(_PURGE_OLD, (now - self._scope_ttl_s,))
        db.execute(_PURGE_MANY, (self._max_scopes,))
        db.execute(_PURGE_EXECUTIONS, (now - self._scope_ttl_s, self._max_scopes))
        db.execute(_PURGE_COUNTS)
        db.execute("DELETE FROM holds WHERE scope NOT IN (SELECT scope FROM scopes)")
        db.execute("DELETE FROM holds WHERE NOT is_open AND expires_at_s < ?", (now - self._scope_ttl_s,))
        known = [name for (name,) in db.execute("SELECT process FROM processes")]
        db.executemany(
            "DELETE FROM processes WHERE process = ?", [(name,) for name in known if not is_alive(name)]
        )


@contextmanager
def _telling_busy() -> Iterator[None]:
    """Tell apart what may be tried again in a moment.

    Raises:
        Busy: Another process is writing.
    """
    try:
        yield
    except sqlite3.OperationalError as error:
        if "locked" not in str(error):
            raise
        raise Busy("another process is writing to the ledger") from error


def _refusing(chain: Sequence[_Row], amount_picousd: int) -> _Row | None:
    for row in chain:
        limit, settled, reserved = row.balance
        if limit is not None and settled + reserved + amount_picousd > limit:
            return row
    return None


def _text(amount_picousd: int | None) -> str | None:
    return None if amount_picousd is None else str(amount_picousd)


def _make(path: Path, *, must_exist: bool) -> None:
    """Make sure that a file is there and this user's alone."""
    check_is_own(path.parent)
    flags = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | (0 if must_exist else os.O_CREAT)
    try:
        descriptor = os.open(path, flags, 0o600)
    except OSError as error:
        raise ConfigError(f"the ledger {path} cannot be opened ({error.strerror})") from None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ConfigError(f"the ledger {path} is not a file; remove it")
    finally:
        os.close(descriptor)


_ledgers: weakref.WeakSet[SqliteLedger] = weakref.WeakSet()
_held_over_fork: list[SqliteLedger] = []


def _before_fork() -> None:
    """Close every file: a connection must not be carried over a fork, nor a lock of a thread left behind.

    https://sqlite.org/howtocorrupt.html#_carrying_an_open_database_connection_across_a_fork_
    """
    for ledger in list(_ledgers):
        if ledger._lock.acquire(timeout=FORK_WAIT_S):
            _held_over_fork.append(ledger)
            ledger._disconnect()


def _after_fork() -> None:
    while _held_over_fork:
        _held_over_fork.pop()._lock.release()


def _after_fork_in_child() -> None:
    _held_over_fork.clear()
    for ledger in list(_ledgers):
        ledger._lock, ledger._is_writing, ledger._late = threading.RLock(), False, []
        if ledger._connection is not None:  # forked past the hook before it: never to be used, nor closed
            _abandoned.append(ledger._connection)
            ledger._connection = None


_abandoned: list[sqlite3.Connection] = []

if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork_in_child)
