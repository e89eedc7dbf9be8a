"""Settings: where they come from, and what is said about wrong ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from otel_cost.config import Config
from otel_cost.errors import ConfigError


def test_argument_beats_environment_beats_default() -> None:
    """An argument wins over its variable, which wins over the default."""
    environ = {"OTEL_COST_EMIT_COST": "false", "OTEL_COST_MAX_EXECUTIONS": "7"}
    config = Config.load(environ, max_executions=9)
    assert (config.emit_cost, config.max_executions, config.metrics) == (False, 9, True)


def test_price_files_are_separated_like_path() -> None:
    """Several price files are given like PATH."""
    assert Config.load({"OTEL_COST_PRICES": "/a.yaml:/b.yaml"}).prices == (Path("/a.yaml"), Path("/b.yaml"))


def test_every_wrong_value_is_named_at_once() -> None:
    """One message names each variable, its value and the remedy."""
    with pytest.raises(ConfigError) as caught:
        Config.load({"OTEL_COST_ENABLED": "perhaps", "OTEL_COST_MAX_OPEN_SPANS": "-1"})
    assert caught.value.problems == (
        "OTEL_COST_ENABLED='perhaps' is not a switch; write true or false",
        "OTEL_COST_MAX_OPEN_SPANS='-1' is not a whole number above 0; write for example 65536",
    )
