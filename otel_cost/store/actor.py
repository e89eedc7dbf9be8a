"""Who works on the store, for its audits."""

from __future__ import annotations

import getpass
import socket


def actor() -> str:
    """Return `user@host`; a container's user may have no name."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "unknown"
    return f"{user}@{socket.gethostname()}"
