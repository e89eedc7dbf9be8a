"""Who may talk to the server: a token, and for browsers nothing at all."""

from __future__ import annotations

import hmac
import ipaddress

from starlette.requests import Request

from otel_cost.errors import ConfigError

LOOPBACK_NAMES = ("localhost", "localhost.localdomain", "ip6-localhost")


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach a listening address."""
    if host.lower().rstrip(".") in LOOPBACK_NAMES:
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def check_exposure(option: str, host: str, token: str | None) -> None:
    """Refuse to listen beyond this machine without a token.

    Raises:
        ConfigError: The address is not loopback and there is no token.
    """
    if not token and not is_loopback(host):
        raise ConfigError(
            f"{option}: {host!r} can be reached from other machines, so a token is needed: "
            "set OTEL_COST_TOKEN (senders then send `Authorization: Bearer <token>`), or listen on 127.0.0.1"
        )


class Guard:
    """Decides from the headers whether a request may be served."""

    def __init__(self, token: str | None, *, loopback: bool) -> None:
        self._token = token.encode() if token else None
        self._loopback = loopback

    def is_foreign(self, request: Request) -> bool:
        """Return whether a web page sent the request.

        A page of another site can make a browser send requests to this machine, and reach it under a
        name of its own through DNS. Browsers mark such requests: Origin, Sec-Fetch-Site, a foreign Host.
        """
        headers = request.headers
        if headers.get("sec-fetch-site", "none") not in ("none", "same-origin") or "origin" in headers:
            return True
        return self._loopback and not is_loopback(_host_name(headers.get("host", "")))

    def has_token(self, *candidates: str) -> bool:
        """Return whether one of the candidates is the token, or none is needed; in constant time."""
        if self._token is None:
            return True
        return any(hmac.compare_digest(candidate.encode(), self._token) for candidate in candidates)

    def has_bearer(self, authorization: str) -> bool:
        """Return whether an Authorization header carries the token, or none is needed."""
        scheme, _, value = authorization.partition(" ")
        return self.has_token(value.strip() if scheme.lower() == "bearer" else "")


def _host_name(host: str) -> str:
    if host.startswith("["):
        return host.partition("]")[0].lstrip("[")
    return host.partition(":")[0]
