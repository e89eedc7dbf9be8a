"""Finish what a killed process began: spans on disk of which it was not yet decided which count."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import Protocol

from otel_cost.store import Packed

PENDING = "pending.json"


class AccountingStore(Protocol):
    """What recovery needs of a store."""

    def insert_packed(self, parts: Sequence[Packed]) -> None:
        """Store a batch of spans, then decide which count."""
        ...

    def account(self, trace_ids: Iterable[str]) -> None:
        """Decide again which spans of these traces count."""
        ...


class Recovering:
    """A store that notes, beside the data, which traces an insert touches until they are accounted.

    A sender usually delivers again what was not acknowledged, which heals the batch; this heals it when the
    sender is gone too.
    """

    def __init__(self, store: AccountingStore, directory: Path) -> None:
        self._store, self._path = store, directory / PENDING
        self._unfinished: set[str] = set()

    def recover(self) -> int:
        """Account the traces that a killed process left behind. Returns how many there were."""
        trace_ids = self._read()
        if trace_ids:
            self._store.account(trace_ids)
        self._path.unlink(missing_ok=True)
        return len(trace_ids)

    def insert_packed(self, parts: Sequence[Packed]) -> None:
        """Store a batch of spans; its traces stay noted when that fails."""
        self._unfinished.update(chain.from_iterable(part.trace_ids for part in parts))
        self._note()
        self._store.insert_packed(parts)
        self._unfinished.clear()
        self._path.unlink(missing_ok=True)

    def _note(self) -> None:
        beside = self._path.with_suffix(".new")
        beside.write_text(json.dumps(sorted(self._unfinished)), encoding="utf-8")
        beside.replace(self._path)

    def _read(self) -> list[str]:
        try:
            found = json.loads(self._path.read_text(encoding="utf-8"))
            return [each for each in found if isinstance(each, str)]
        except (OSError, ValueError, TypeError):
            return []
