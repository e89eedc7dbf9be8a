"""Model calls whose cost is known by hand: gpt-4o-mini at 0.15 USD a million tokens in, 0.60 out.

https://openai.com/api/pricing, in force since 2024-07-18.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

from otel_cost.server.otlp_json import flatten
from otel_cost.server.spans import Row

Request = dict[str, Any]


@dataclass(frozen=True)
class Call:
    """One call of an execution, by its number."""

    execution: int
    number: int
    at: datetime
    user: str = "ann"
    team: str = "red"
    organization: str = "acme"
    feature: str = "search"
    input_tokens: int = 1000
    output_tokens: int = 200
    error: bool = False

    @property
    def cost_usd(self) -> Decimal:
        """What it costs: tokens times rate."""
        return (self.input_tokens * Decimal("0.15") + self.output_tokens * Decimal("0.60")) / 1_000_000

    @property
    def trace_id(self) -> str:
        return hashlib.md5(f"{self.execution}".encode()).hexdigest()

    @property
    def span_id(self) -> str:
        return hashlib.md5(f"{self.execution}/{self.number}".encode()).hexdigest()[:16]

    def request(self) -> Request:
        """Return the request that delivers it."""
        values = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": "gpt-4o-mini",
            "gen_ai.usage.input_tokens": self.input_tokens,
            "gen_ai.usage.output_tokens": self.output_tokens,
            "user.id": self.user,
            "otel_cost.team": self.team,
            "otel_cost.organization": self.organization,
            "otel_cost.feature": self.feature,
        }
        start_ns = int(self.at.timestamp()) * 10**9
        span = {
            "traceId": self.trace_id,
            "spanId": self.span_id,
            "name": "chat",
            "startTimeUnixNano": str(start_ns),
            "endTimeUnixNano": str(start_ns + 10**9),
            "status": {"code": 2 if self.error else 0},
            "attributes": [_attribute(key, value) for key, value in values.items()],
        }
        return {"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}

    def rows(self) -> list[Row]:
        """Return its rows of `otel_traces`."""
        return list(flatten(self.request()).rows)


def _attribute(key: str, value: str | int) -> Request:
    kind, told = ("intValue", str(value)) if isinstance(value, int) else ("stringValue", value)
    return {"key": key, "value": {kind: told}}


def moment(text: str) -> datetime:
    """Return a time in UTC: `2026-06-01 12:00`."""
    return datetime.fromisoformat(text).replace(tzinfo=timezone.utc)


def after(begin: datetime, minutes: int) -> datetime:
    """Return a time some minutes later."""
    return begin + timedelta(minutes=minutes)
