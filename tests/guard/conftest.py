"""What every test of the guard leaves behind: no open client."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.guard import opened


@pytest.fixture(autouse=True)
def _closed_clients() -> Iterator[None]:
    yield
    opened.clients.close()
