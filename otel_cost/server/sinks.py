"""Where an import goes: into a store this process holds, or to the server that holds it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import urllib3
from google.rpc.status_pb2 import Status

from otel_cost.errors import BackpressureError, MalformedError
from otel_cost.server.decoding import PROTOBUF, as_bodies, as_packed, decode_rows
from otel_cost.server.records import Record
from otel_cost.server.writer import Writer
from otel_cost.store import Packed

GIVE_UP_S = 120.0
"""How long a server that pushes back is asked again."""
_TIMEOUT_S = 120.0
_POSTS = 8
"""Bodies on their way at once: the server joins what arrives meanwhile to one insert."""


class StoreSink:
    """Writes into a store of this process."""

    form = staticmethod(as_packed)

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    def send(self, part: Packed, records: Sequence[Record]) -> Future[int]:
        """Queue spans for the next insert."""
        size = sum(len(record.body) for record in records)
        return self._writer.submit(part, size, lambda: decode_rows(records))


class OtlpSink:
    """Sends to an OTLP/HTTP server, as any exporter would."""

    form = staticmethod(as_bodies)

    def __init__(self, url: str, token: str) -> None:
        self._url = f"{url}/v1/traces"
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._pool = urllib3.PoolManager(
            maxsize=_POSTS, timeout=urllib3.Timeout(connect=5, read=_TIMEOUT_S), retries=False
        )
        self._sending = ThreadPoolExecutor(2, "otel-cost-send")
        self._posting = ThreadPoolExecutor(_POSTS, "otel-cost-post")

    def send(self, part: Sequence[tuple[str, bytes]], records: Sequence[Record]) -> Future[int]:
        """Send bodies; the server joins what arrives together to one insert."""
        return self._sending.submit(self._send, part)

    def close(self) -> None:
        """Wait for what is being sent."""
        self._sending.shutdown()
        self._posting.shutdown()
        self._pool.clear()

    def _send(self, bodies: Sequence[tuple[str, bytes]]) -> int:
        posts = [self._posting.submit(self._post, kind, body) for kind, body in bodies]
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


def _why(response: urllib3.BaseHTTPResponse) -> str:
    if response.headers.get("Content-Type") == PROTOBUF:
        return str(Status.FromString(response.data).message)
    return response.data[:500].decode(errors="replace")
