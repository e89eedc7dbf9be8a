"""Clients of official SDKs that a test opens and does not close itself."""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack
from typing import TypeVar

Client = TypeVar("Client", bound=AbstractContextManager[object])

clients = ExitStack()
"""Closed after each test: a client is part of a reference cycle, and which of them the collector ends first,
the client or its socket, is chance."""


def opened(client: Client) -> Client:
    """Return a client that is closed after the test."""
    clients.push(client)
    return client
