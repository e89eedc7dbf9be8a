"""Every error otel_cost raises on purpose.

OtelCostError
├── ConfigError            a setting, policy or price file that cannot be used
├── UsageError             usage no provider could have meant
├── UnknownModelError      no price entry matches: unpriced, which is not free
├── StoreError             the store refused or could not be reached
│   └── StoreBusyError     another process owns the embedded store
└── IngestError            telemetry that cannot be accepted
    ├── MalformedError     it will never be accepted: do not retry
    └── BackpressureError  not now: retry after `retry_after_s`
"""

from __future__ import annotations

from collections.abc import Iterable


class OtelCostError(Exception):
    """Base of every error this package raises on purpose."""


class ConfigError(OtelCostError):
    """A setting, policy or price file cannot be used.

    Attributes:
        problems: Every problem found, each naming the variable or file:line, the value and the remedy.
    """

    def __init__(self, problems: str | Iterable[str]) -> None:
        self.problems = (problems,) if isinstance(problems, str) else tuple(problems)
        super().__init__("\n".join(self.problems))


class UsageError(OtelCostError):
    """Usage that no provider could have meant: negative, not a whole number, or a part above its total."""


class UnknownModelError(OtelCostError):
    """No price entry matches the model. The call is unpriced, which is not the same as free."""

    def __init__(self, model: str, provider: str | None) -> None:
        self.model = model
        self.provider = provider
        where = f" of provider {provider!r}" if provider else ""
        super().__init__(
            f"no price is known for model {model!r}{where}; "
            "add it to a price file and name that file in OTEL_COST_PRICES"
        )


class StoreError(OtelCostError):
    """The store refused a statement or could not be reached."""


class StoreBusyError(StoreError):
    """Another process owns the embedded store."""


class IngestError(OtelCostError):
    """Telemetry that cannot be accepted."""


class MalformedError(IngestError):
    """Telemetry that will never be accepted: the sender must not retry."""


class BackpressureError(IngestError):
    """The queue is full: the sender may retry.

    Attributes:
        retry_after_s: How long to wait, in seconds.
    """

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(message)
