"""See what AI agents spend, from the OpenTelemetry spans they already emit, and stop what overspends.

```python
import otel_cost

otel_cost.install()  # price every model call of this process
with otel_cost.execution(user="u-1", budget_usd="0.50"):  # say who pays, and how much at most
    agent.run()
```
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from otel_cost.attribution import Payer, execution
    from otel_cost.config import Config
    from otel_cost.errors import BudgetExceeded, ConfigError, OtelCostError, UnknownModelError, UsageError
    from otel_cost.guard.control import approve, remaining
    from otel_cost.instrument import install
    from otel_cost.pricing import Charge, PriceBook
    from otel_cost.processor import CostSpanProcessor
    from otel_cost.usage import Reading, Usage

__version__ = "0.1.0"

_HOME = {
    "BudgetExceeded": "errors",
    "Charge": "pricing",
    "Config": "config",
    "ConfigError": "errors",
    "CostSpanProcessor": "processor",
    "OtelCostError": "errors",
    "Payer": "attribution",
    "PriceBook": "pricing",
    "Reading": "usage",
    "UnknownModelError": "errors",
    "Usage": "usage",
    "UsageError": "errors",
    "approve": "guard.control",
    "execution": "attribution",
    "install": "instrument",
    "remaining": "guard.control",
}

__all__ = [
    "BudgetExceeded",
    "Charge",
    "Config",
    "ConfigError",
    "CostSpanProcessor",
    "OtelCostError",
    "Payer",
    "PriceBook",
    "Reading",
    "UnknownModelError",
    "Usage",
    "UsageError",
    "approve",
    "execution",
    "install",
    "remaining",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that the command line starts without the SDK."""
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'otel_cost' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"otel_cost.{home}"), name)
    globals()[name] = value
    return value
