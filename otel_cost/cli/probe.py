"""Sends an empty export as a program would, so that a wrong path, protocol or token has a name."""

from __future__ import annotations

import http.client
import os
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import urlsplit

from otel_cost.exporter import endpoint, headers_in_force, is_reachable, protocol, traces_url

TIMEOUT_S = 3.0
EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
BEARER_REMEDY = (
    "set OTEL_COST_TOKEN to the token of `otel-cost up`; for an address that is not of this machine, and "
    "without otel-cost run, OTEL_EXPORTER_OTLP_HEADERS=authorization=Bearer%20<token>"
)
ENDPOINT_REMEDY = "otel-cost up --background, or set OTEL_EXPORTER_OTLP_ENDPOINT to your collector"
PATH_REMEDY = "set OTEL_EXPORTER_OTLP_ENDPOINT to the address alone; /v1/traces is added to it"
GRPC_REMEDY = "set OTEL_EXPORTER_OTLP_PROTOCOL=grpc, or the port of OTLP/HTTP, 4318 by default"
HTTP_REMEDY = "set OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf, or the port of OTLP/gRPC, 4317 by default"


class Answer(NamedTuple):
    """What became of an empty export.

    Attributes:
        remedy: What to do; empty where it was taken.
    """

    detail: str
    remedy: str = ""


def probe() -> Answer:
    """Send an empty export with the endpoint, protocol and headers in force, and say what came of it."""
    url = endpoint()
    if not is_reachable(url):
        return Answer(f"nothing listens at {url}: spans are lost", ENDPOINT_REMEDY)
    return _by_grpc(url) if protocol() == "grpc" else _by_http(traces_url())


def _by_http(url: str) -> Answer:
    if urlsplit(url).scheme not in ("http", "https"):
        return Answer(f"{url} is no http:// address: spans are lost", PATH_REMEDY)
    headers = {**headers_in_force(), "Content-Type": "application/x-protobuf"}
    request = urllib.request.Request(url, b"", headers, method="POST")  # noqa: S310 (http or https, above)
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S, context=_tls(url)):  # noqa: S310
            return Answer(f"{url} takes spans")
    except urllib.error.HTTPError as error:
        error.close()
        return _refused(url, error.code)
    except (http.client.HTTPException, ConnectionError):
        return Answer(f"what listens at {url} does not speak HTTP: spans are lost", GRPC_REMEDY)
    except OSError as error:
        reason = getattr(error, "reason", error)
        return Answer(f"{url} does not answer ({reason}): spans are lost", ENDPOINT_REMEDY)


def _refused(url: str, status: int) -> Answer:
    if status in (401, 403):
        return Answer(f"{url} asks for another token (status {status}): spans are lost", BEARER_REMEDY)
    if status in (404, 405):
        return Answer(f"{url} is no place for traces (status {status}): spans are lost", PATH_REMEDY)
    return Answer(f"{url} refuses spans (status {status})", "see the log of what listens there")


def _tls(url: str) -> ssl.SSLContext | None:
    names = ("OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "OTEL_EXPORTER_OTLP_CERTIFICATE")
    file = next((os.environ[name] for name in names if os.environ.get(name)), None)
    return ssl.create_default_context(cafile=file) if url.startswith("https:") and file else None


def _by_grpc(url: str) -> Answer:
    try:
        import grpc
    except ImportError:
        remedy = "pip install opentelemetry-exporter-otlp-proto-grpc, or set the protocol to http/protobuf"
        return Answer(f"grpc is not installed, so that nothing is sent to {url}", remedy)
    target = urlsplit(url).netloc or url
    channel = (
        grpc.secure_channel(target, grpc.ssl_channel_credentials())
        if url.startswith("https:")
        else grpc.insecure_channel(target)
    )
    send: Callable[..., bytes] = channel.unary_unary(EXPORT)
    metadata = tuple((name.lower(), value) for name, value in headers_in_force().items())
    with channel:
        try:
            send(b"", metadata=metadata, timeout=TIMEOUT_S)
        except grpc.RpcError as error:
            return _refused_by_grpc(url, error.code().name)
    return Answer(f"{url} takes spans, by gRPC")


def _refused_by_grpc(url: str, code: str) -> Answer:
    if code in ("UNAUTHENTICATED", "PERMISSION_DENIED"):
        return Answer(f"{url} asks for another token ({code}): spans are lost", BEARER_REMEDY)
    if code in ("UNAVAILABLE", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL"):
        return Answer(f"what listens at {url} does not take traces by gRPC: spans are lost", HTTP_REMEDY)
    return Answer(f"{url} refuses spans ({code})", "see the log of what listens there")
