"""Where an import goes: into a store this process holds, or to the server that holds it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import orjson
import urllib3
from google.rpc.status_pb2 import Status

from otel_cost.errors import BackpressureError, MalformedError
from otel_cost.server.ingest import MAX_BODY_BYTES
from otel_cost.server.spans import Row
from otel_cost.server.writer import Writer

GIVE_UP_S = 120.0
"""How long a server that pushes back is asked again."""
_TIMEOUT_S = 120.0
_POSTS = 8
"""Bodies on their way at once: the server joins what arrives meanwhile to one insert."""
_PART_BYTES = MAX_BODY_BYTES // 4
_PROTOBUF, _JSON = "application/x-protobuf", "application/json"


class StoreSink:
    """Writes into a store of this process."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    def send(self, rows: Sequence[Row], requests: Sequence[dict[str, Any] | bytes], size: int) -> Future[int]:
        """Queue spans for the next insert."""
        return self._writer.submit(rows, size)


class OtlpSink:
    """Sends to an OTLP/HTTP server, as any exporter would."""

    def __init__(self, url: str, token: str) -> None:
        self._url = f"{url}/v1/traces"
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._pool = urllib3.PoolManager(
            maxsize=_POSTS, timeout=urllib3.Timeout(connect=5, read=_TIMEOUT_S), retries=False
        )
        self._sending = ThreadPoolExecutor(1, "otel-cost-send")
        self._posting = ThreadPoolExecutor(_POSTS, "otel-cost-post")

    def send(self, rows: Sequence[Row], requests: Sequence[dict[str, Any] | bytes], size: int) -> Future[int]:
        """Send the requests that hold spans, joined to few bodies."""
        return self._sending.submit(self._send, list(requests))

    def close(self) -> None:
        """Wait for what is being sent."""
        self._sending.shutdown()
        self._posting.shutdown()
        self._pool.clear()

    def _send(self, requests_read: list[dict[str, Any] | bytes]) -> int:
        posts = [self._posting.submit(self._post, kind, body) for kind, body in _bodies(requests_read)]
        for post in posts:
            post.result()
        return 0

    def _post(self, kind: str, body: bytes) -> None:
        """Send one body until the server takes it.

        Raises:
            BackpressureError: It does not within `GIVE_UP_S`.
            MalformedError: It never will.
        """
        deadline = time.monotonic() + GIVE_UP_S
        while True:
            why, wait_s = self._try(kind, body)
            if not why:
                return
            if time.monotonic() + wait_s > deadline:
                raise BackpressureError(f"{self._url}: {why}", retry_after_s=wait_s)
            time.sleep(wait_s)

    def _try(self, kind: str, body: bytes) -> tuple[str, float]:
        """Send one body once. Returns why it should be sent again, if so, and after how many seconds."""
        try:
            headers = {**self._headers, "Content-Type": kind}
            response = self._pool.request("POST", self._url, body=body, headers=headers)
        except urllib3.exceptions.HTTPError as error:
            return f"the server cannot be reached: {error}", 1.0
        if response.status in (429, 502, 503, 504):
            return f"the server answers {response.status}", float(response.headers.get("Retry-After", 1))
        if response.status != 200:
            raise MalformedError(f"{self._url} answers {response.status}: {_why(response)}")
        return "", 0.0


def _bodies(requests_read: Sequence[dict[str, Any] | bytes]) -> Iterator[tuple[str, bytes]]:
    """Join requests to bodies well below the server's limit. Protobuf messages join end to end."""
    messages, documents = bytearray(), bytearray()
    for request in requests_read:
        if isinstance(request, bytes):
            if messages and len(messages) + len(request) > _PART_BYTES:
                yield _PROTOBUF, bytes(messages)
                messages.clear()
            messages += request
            continue
        for resource in request.get("resourceSpans") or request.get("resource_spans") or ():
            part = orjson.dumps(resource)
            if documents and len(documents) + len(part) > _PART_BYTES:
                yield _JSON, b'{"resourceSpans":[' + documents + b"]}"
                documents.clear()
            documents += (b"," if documents else b"") + part
    if messages:
        yield _PROTOBUF, bytes(messages)
    if documents:
        yield _JSON, b'{"resourceSpans":[' + documents + b"]}"


def _why(response: urllib3.BaseHTTPResponse) -> str:
    if response.headers.get("Content-Type") == _PROTOBUF:
        return str(Status.FromString(response.data).message)
    return response.data[:500].decode(errors="replace")
