"""What child processes of a test do; it is imported where they are spawned."""

from __future__ import annotations

import os
from contextlib import suppress

import httpx

from otel_cost.attribution import payer_of_context
from otel_cost.errors import BudgetExceeded

OUTPUT = 10_000
"""Output tokens of gpt-4o that cost a dime: 10 USD per million (https://openai.com/api/pricing, 2026-11)."""
CHAT = {"model": "gpt-4o", "max_tokens": OUTPUT, "messages": [{"role": "user", "content": "hello"}]}


def call(url: str, times: int = 1) -> int:
    """Make calls of a dime until one is refused. Returns how many were answered."""
    done = 0
    with httpx.Client(timeout=60) as client, suppress(BudgetExceeded):
        while done < times:
            client.post(f"{url}/chat/completions", json=CHAT).raise_for_status()
            done += 1
    return done


def pay(url: str, model: str = "gpt-4o") -> str:
    """Make a call of a dime. Returns its model."""
    with httpx.Client(timeout=60) as client:
        client.post(f"{url}/chat/completions", json={**CHAT, "model": model}).raise_for_status()
    return model


def fail(_: object = None) -> None:
    """Fail as a task does."""
    raise LookupError("nothing there")


def who(_: object = None) -> tuple[int, str, str]:
    """Return the process, and the execution and team it works for."""
    payer = payer_of_context()
    return os.getpid(), payer.execution_id, payer.team
