"""What every command does with a store before it fills it."""

from __future__ import annotations

from otel_cost.budgets import Policy
from otel_cost.config import Config
from otel_cost.pricing import PriceBook
from otel_cost.store import Store
from otel_cost.store.topology import Topology


def bring_up_to_date(store: Store, topology: Topology | None = None) -> list[str]:
    """Give a store the tables of this version, and the prices and the policy in force.

    Returns:
        The names of the migrations and views that were applied.
    """
    applied = store.migrate(topology)
    store.push_prices(PriceBook.load(Config.load().prices))
    store.push_policy(Policy.load())
    return applied
