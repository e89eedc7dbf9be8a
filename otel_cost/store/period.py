"""Periods as a person writes them: `24h`, `7d`, `2026-01-01`."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone

from otel_cost.errors import ConfigError

_SPAN = re.compile(r"(\d{1,6})([mhdw])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def parse_since(text: str, now: datetime | None = None, *, option: str = "--since") -> datetime:
    """Return the moment a period begins, UTC.

    Args:
        text: A length back from now (`30m`, `24h`, `7d`, `2w`), a day, a time with or without an offset (UTC
            where there is none), or `all`.
        option: What the text was given to, for the message.

    Raises:
        ConfigError: It is none of them.
    """
    if text == "all":
        return EPOCH
    if found := _SPAN.fullmatch(text):
        length = timedelta(**{_UNITS[found[2]]: int(found[1])})
        now = now or datetime.now(timezone.utc)
        return max(EPOCH, now - min(length, now - EPOCH))
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        raise ConfigError(f"{option} {text!r} is not a period; write 24h, 7d, 2026-01-31 or all") from None
    return moment.replace(tzinfo=moment.tzinfo or timezone.utc).astimezone(timezone.utc)
