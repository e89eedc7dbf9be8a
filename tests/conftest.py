"""Settings every test shares."""

from __future__ import annotations

import os
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# A shared machine is slow at times; that is not what the properties are about.
settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("thorough", parent=settings.get_profile("default"), max_examples=1_000)
settings.load_profile(os.environ.get("OTEL_COST_HYPOTHESIS", "default"))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keep together what shares a fixture, unless --dist asks for something else."""
    if config.getoption("dist") != "load":
        return None
    from tests.scheduling import UnitScheduling  # pytest-xdist is not everywhere that these tests run

    return UnitScheduling(config, log)
