"""Fixtures of the agent tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.agents.harness import Collector


@pytest.fixture
def collector() -> Iterator[Collector]:
    """An OTLP backend that keeps what it receives."""
    with Collector() as collector:
        yield collector
