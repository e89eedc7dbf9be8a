"""Text of which a terminal obeys nothing, in whatever encoding it has."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from typing import Any

_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""What terminals obey instead of showing it, and what turns the direction of text round."""


def accept_any_text() -> None:
    """Show characters that the output has no code for as escapes, and read JSON and SQL as UTF-8."""
    for stream, options in (
        (sys.stdout, {"errors": "backslashreplace"}),
        (sys.stderr, {"errors": "backslashreplace"}),
        (sys.stdin, {"encoding": "utf-8"}),
    ):
        if reconfigure := getattr(stream, "reconfigure", None):
            reconfigure(**options)


def plain(text: str) -> str:
    r"""Return text of which a terminal obeys nothing: `\x1b` for an escape character, `\n` for a new line."""
    return _CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def plain_lines(text: str) -> str:
    """Return text as `plain` does, its lines and tabs kept."""
    return re.sub(r"[^\n\t]+", lambda found: plain(found[0]), text)


def write_json(value: Any, *, indent: int | None = None, default: Callable[[Any], Any] | None = None) -> None:
    """Write a value as JSON; what the output cannot show or a terminal would obey is escaped."""
    is_unicode = (sys.stdout.encoding or "").lower().startswith("utf")
    text = json.dumps(value, ensure_ascii=not is_unicode, indent=indent, default=default)
    sys.stdout.write(re.sub(r"[^\n]+", _escape_json, text) + "\n")


def _escape_json(found: re.Match[str]) -> str:
    return _CONTROLS.sub(lambda control: f"\\u{ord(control[0]):04x}", found[0])
