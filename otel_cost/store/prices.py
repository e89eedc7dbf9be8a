"""Hand a price book to the warehouse."""
from __future__ import annotations
from typing import Any

def push(client: Any, book: Any) -> None:
    """Replace prices and patterns."""
