"""From a request body to spans on disk, whatever protocol brought it."""

from __future__ import annotations

import asyncio
import logging
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass

import zstandard

from otel_cost.errors import BackpressureError, MalformedError
from otel_cost.server.otlp_json import decode_json
from otel_cost.server.otlp_protobuf import decode_protobuf
from otel_cost.server.spans import Decoded
from otel_cost.server.writer import Writer

log = logging.getLogger(__name__)

MAX_BODY_BYTES = 20 * 1024 * 1024
"""Largest request, after decompression: the Collector's default for its receiver."""
MAX_BODIES_BYTES = 128 * 1024 * 1024
"""Bodies in hand at once. Decoded they take about four times as much."""
DECODERS: dict[str, Callable[[bytes], Decoded]] = {
    "application/x-protobuf": decode_protobuf,
    "application/json": decode_json,
}
_ZSTD_STEP = 512
"""Input bytes fed at once: four of them can make 128 kB, so a step makes 16 MB at most."""
_ZSTD_WINDOW = 8 * 1024 * 1024
"""Largest window accepted; RFC 8878 asks decoders for this much."""
ENCODINGS = ("", "identity", "gzip", "deflate", "zstd")


class TooLargeError(MalformedError):
    """A body beyond `MAX_BODY_BYTES`: send fewer spans at once."""

    def __init__(self) -> None:
        super().__init__(f"the body is larger than {MAX_BODY_BYTES} bytes: send fewer spans at once")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one request: spans on disk, spans refused for good, and why."""

    accepted: int
    rejected: int
    message: str


@dataclass(slots=True)
class Counters:
    """What the receiver did since it started."""

    requests: int = 0
    accepted_spans: int = 0
    rejected_spans: int = 0
    truncated_attributes: int = 0
    malformed_requests: int = 0
    refused_requests: int = 0
    dropped_logs_requests: int = 0
    dropped_metrics_requests: int = 0

    def as_dict(self) -> dict[str, int]:
        """Return the counters by name."""
        return asdict(self)


class Ingest:
    """Takes request bodies, bounded in number and size, and returns when their spans are on disk."""

    def __init__(self, writer: Writer) -> None:
        self.counters = Counters()
        self._writer = writer
        self._bytes = 0
        self._decoding = asyncio.Semaphore(2)

    @property
    def is_ready(self) -> bool:
        """Whether spans can be stored."""
        return self._writer.is_alive

    @property
    def pending_spans(self) -> int:
        """Spans accepted but not yet on disk."""
        return self._writer.pending_spans

    def reserve(self, size: int) -> None:
        """Make room for a part of a body; give it back with `release`.

        Raises:
            BackpressureError: Too many bodies are in hand.
        """
        if size > 0 and self._bytes + size > MAX_BODIES_BYTES:
            raise BackpressureError(f"{self._bytes} bytes of requests are in hand", retry_after_s=1.0)
        self._bytes += size

    def release(self, size: int) -> None:
        """Give back what `reserve` made room for."""
        self._bytes -= size

    async def export(self, body: bytes, content_type: str, encoding: str = "") -> Outcome:
        """Store the spans of one request.

        Raises:
            MalformedError: The body can never be accepted.
            BackpressureError: The spans could not be stored now.
        """
        self.counters.requests += 1
        try:
            async with self._decoding:
                decoded, size = await asyncio.to_thread(_decode, body, content_type, encoding)
            refused = await self._store(decoded, size, size - len(body))
        except MalformedError:
            self.counters.malformed_requests += 1
            raise
        return self._outcome(decoded, refused)

    async def _store(self, decoded: Decoded, size: int, grown: int) -> int:
        """Wait until spans are on disk, with room for what the body grew by. Returns how many are refused."""
        self.reserve(grown)
        try:
            return await asyncio.wrap_future(self._writer.submit(decoded.rows, size))
        finally:
            self.release(grown)

    def _outcome(self, decoded: Decoded, refused: int) -> Outcome:
        rejected, message = decoded.rejected.total() + refused, decoded.describe_rejected()
        if refused:
            message = "; ".join(filter(None, (message, f"the store refused {refused} spans")))
        outcome = Outcome(len(decoded.rows) - refused, rejected, message)
        self.counters.accepted_spans += outcome.accepted
        self.counters.rejected_spans += rejected
        self.counters.truncated_attributes += decoded.truncated
        if rejected:
            log.warning("%d of %d spans rejected: %s", rejected, rejected + outcome.accepted, message)
        return outcome


def _decode(body: bytes, content_type: str, encoding: str) -> tuple[Decoded, int]:
    plain = decompress(body, encoding)
    return DECODERS[content_type](plain), len(plain)


def decompress(body: bytes, encoding: str, limit: int = MAX_BODY_BYTES) -> bytes:
    """Return the body without its Content-Encoding, never holding more than `limit` bytes of it.

    Raises:
        MalformedError: It is not what the encoding says, or is cut short.
        TooLargeError: It grows beyond the limit.
    """
    if encoding in ("", "identity"):
        plain = body
    elif encoding == "zstd":
        plain = _unzstd(body, limit)
    else:
        plain = _inflate(body, encoding, limit)
    if len(plain) > limit:
        raise TooLargeError
    return plain


def _inflate(body: bytes, encoding: str, limit: int) -> bytes:
    plain = b""
    try:
        while body and len(plain) <= limit:
            inflater = zlib.decompressobj(31 if encoding == "gzip" else 15)
            plain += inflater.decompress(body, limit + 1 - len(plain))
            if not inflater.eof and len(plain) <= limit:
                raise MalformedError(f"the {encoding} body is cut short")
            body = inflater.unused_data
    except zlib.error as error:
        raise MalformedError(f"the body is not {encoding}: {error}") from error
    return plain


def _unzstd(body: bytes, limit: int) -> bytes:
    plain = bytearray()
    try:
        while body and len(plain) <= limit:
            body = _unzstd_frame(body, plain, limit)
    except zstandard.ZstdError as error:
        raise MalformedError(f"the body is not zstd: {error}") from error
    return bytes(plain)


def _unzstd_frame(body: bytes, plain: bytearray, limit: int) -> bytes:
    """Append one frame to `plain` in small steps, so that none can grow far, and return what follows it."""
    frame = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW).decompressobj()
    for start in range(0, len(body), _ZSTD_STEP):
        plain += frame.decompress(body[start : start + _ZSTD_STEP])
        if frame.eof:
            return frame.unused_data + body[start + _ZSTD_STEP :]
        if len(plain) > limit:
            return b""
    raise MalformedError("the zstd body is cut short")
