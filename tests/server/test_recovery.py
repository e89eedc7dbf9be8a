"""What a killed process left between storing spans and accounting them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

from otel_cost.errors import StoreError
from otel_cost.server.otlp_protobuf import flatten
from otel_cost.server.recovery import PENDING, Recovering
from otel_cost.server.spans import to_columns
from otel_cost.store import Packed, pack
from tests.server.harness import request_of


class DyingStore:
    """Stores spans, then fails where told, as a process that is killed would."""

    def __init__(self) -> None:
        self.accounted: list[str] = []
        self.dies = False

    def insert_packed(self, parts: Sequence[Packed]) -> None:
        """Store, and account unless killed before."""
        if self.dies:
            raise StoreError("killed")
        self.account(trace_id for part in parts for trace_id in part.trace_ids)

    def account(self, trace_ids: Iterable[str]) -> None:
        """Remember what was accounted."""
        self.accounted += trace_ids


def batch(seed: int) -> list[Packed]:
    """Return three spans."""
    return [pack(to_columns(flatten(request_of(3, seed=seed)).rows))]


def test_a_finished_insert_leaves_no_note(tmp_path: Path) -> None:
    """Nothing is to be done after an orderly end."""
    store = DyingStore()
    recovering = Recovering(store, tmp_path)
    recovering.insert_packed(batch(1))
    assert not (tmp_path / PENDING).exists()
    assert Recovering(store, tmp_path).recover() == 0
    assert len(store.accounted) == 3


def test_traces_of_an_unfinished_insert_are_accounted_at_the_next_start(tmp_path: Path) -> None:
    """All inserts that failed since the last good one are noted, and accounted once."""
    store = DyingStore()
    store.dies = True
    dying = Recovering(store, tmp_path)
    for seed in (1, 2):
        with pytest.raises(StoreError):
            dying.insert_packed(batch(seed))
    store.dies = False
    assert Recovering(store, tmp_path).recover() == 6
    assert set(store.accounted) == {*batch(1)[0].trace_ids, *batch(2)[0].trace_ids}
    assert Recovering(store, tmp_path).recover() == 0


@pytest.mark.parametrize("damage", ["", "{", "[1, null]", "5"])
def test_a_damaged_note_is_no_obstacle(tmp_path: Path, damage: str) -> None:
    """A note that was half written stops no start."""
    (tmp_path / PENDING).write_text(damage)
    assert Recovering(DyingStore(), tmp_path).recover() == 0
    assert not (tmp_path / PENDING).exists()
