"""Fixtures of the pipeline's tests."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.server.commands import serving


@pytest.fixture(scope="session")
def prepared_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An embedded store with its tables and prices, made once: making it takes most of a start."""
    path = tmp_path_factory.mktemp("prepared") / "store"
    with serving(path) as up:
        assert up.end() == 0
    return path


@pytest.fixture
def fresh_store(prepared_store: Path, tmp_path: Path) -> Path:
    """An empty embedded store of the test's own."""
    path = tmp_path / "store"
    shutil.copytree(prepared_store, path, symlinks=True)
    return path
