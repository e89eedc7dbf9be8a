"""Realistic charges at any number of rows, the same for the same seed."""

from __future__ import annotations

from warehouse.load import Fleet, Loaded, load

__all__ = ["Fleet", "Loaded", "load"]
