"""The trace requests in a file: one record after another, whatever its compression and layout.

Layouts: OTLP/JSON lines as the Collector's file exporter writes them, lines that wrap a request as
`{"otlp": ...}`, one JSON document, a JSON array, one protobuf message, and protobuf messages behind 4-byte
big-endian sizes.
https://github.com/open-telemetry/opentelemetry-collector-contrib/tree/main/exporter/fileexporter
"""

from __future__ import annotations

import contextlib
import glob
import gzip
import hashlib
import io
import lzma
import sys
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import orjson
import zstandard

from otel_cost.errors import ConfigError, MalformedError

MAX_RECORD_BYTES = 256 * 1024 * 1024
"""Longest line, message or document: ten times the largest batch a Collector writes."""
SUFFIXES = (".json", ".jsonl", ".ndjson", ".otlp", ".pb", ".binpb", ".proto", ".bin")
"""What is taken from a directory, also followed by .gz, .xz, .zst or a number that a rotation added."""
_HEAD_BYTES, _CHUNK_BYTES = 65_536, 1024 * 1024
_BROKEN = (EOFError, OSError, lzma.LZMAError, zlib.error, zstandard.ZstdError)


@dataclass(frozen=True, slots=True)
class Record:
    """One trace request in a file, not decoded yet.

    Attributes:
        label: Where it stands, for people: `spans.jsonl:12`.
        end: Offset behind it in the decompressed file, where reading can go on.
        body: JSON text or a protobuf message.
        is_json: Which of the two.
        problem: Why it cannot be read; then there is no body.
    """

    label: str
    end: int
    body: bytes
    is_json: bool = True
    problem: str = ""


class Source:
    """One file, or standard input."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.name = str(path) if path else "standard input"
        self.size = path.stat().st_size if path else 0
        """Size on disk, 0 when unknown."""
        self._raw: io.BufferedReader | None = None

    @property
    def position(self) -> int:
        """Bytes of the file read so far, as they are on disk."""
        if self.path is None or self._raw is None:
            return 0
        return self.size if self._raw.closed else self._raw.tell()

    def identity(self) -> str:
        """Return what tells the file from others, wherever it lies: a digest of its size and first 64 KiB."""
        if self.path is None:
            return ""
        with self.path.open("rb") as file:
            return hashlib.sha256(f"{self.size}:".encode() + file.read(_HEAD_BYTES)).hexdigest()

    def records(self, start: int = 0) -> Iterator[Record]:
        """Yield the records from an offset on. A broken end is a record with a problem, the last one."""
        end = start
        with contextlib.ExitStack() as stack:
            file = self._open(stack)
            try:
                for record in _layout(file)(self.name, file, start):
                    end = record.end
                    yield record
            except _BROKEN as error:
                yield Record(self.name, end, b"", problem=f"the file breaks off or is damaged: {error}")
            except MalformedError as error:
                yield Record(self.name, end, b"", problem=str(error))

    def _open(self, stack: contextlib.ExitStack) -> io.BufferedReader:
        if self.path is None:
            self._raw = io.BufferedReader(cast(io.RawIOBase, sys.stdin.buffer))
        else:
            self._raw = stack.enter_context(self.path.open("rb"))
        plain = _decompressed(self._raw)
        return stack.enter_context(io.BufferedReader(plain, _CHUNK_BYTES))


def find_sources(arguments: Sequence[str]) -> list[Source]:
    """Return the files that arguments name: files, directories, patterns, and `-` for standard input.

    Raises:
        ConfigError: An argument names nothing.
    """
    found: list[Source] = []
    problems: list[str] = []
    for argument in arguments:
        paths: Sequence[Path | None] = [None] if argument == "-" else _paths(argument)
        if not paths:
            problems.append(
                f"{argument!r} is no file, directory with trace files, or pattern that matches any"
            )
        found.extend(Source(path) for path in paths)
    if problems:
        raise ConfigError(problems)
    return found


def _paths(argument: str) -> list[Path]:
    path = Path(argument)
    if path.is_dir():
        return sorted(child for child in path.rglob("*") if child.is_file() and _is_trace_file(child))
    if path.exists():
        return [path]
    return [Path(match) for match in sorted(glob.glob(argument, recursive=True)) if Path(match).is_file()]


def _is_trace_file(path: Path) -> bool:
    return any(suffix in SUFFIXES for suffix in path.suffixes)


def _decompressed(raw: io.BufferedReader) -> io.RawIOBase:
    head = raw.peek(6)[:6]
    if head.startswith(b"\x1f\x8b"):
        return cast(io.RawIOBase, gzip.GzipFile(fileobj=raw))
    if head.startswith(b"\xfd7zXZ\x00"):
        return cast(io.RawIOBase, lzma.LZMAFile(raw))
    if head.startswith(b"\x28\xb5\x2f\xfd"):
        frames = zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True)
        return cast(io.RawIOBase, frames)
    return cast(io.RawIOBase, raw)


def _layout(file: io.BufferedReader) -> Any:
    """Return the reader for what the file begins with."""
    try:
        head = file.peek(_HEAD_BYTES)[:_HEAD_BYTES]
    except _BROKEN:
        return _lines
    first = head.lstrip()[:1]
    if first == b"[":
        return _array
    if first == b"{":
        return _document if _is_pretty(head) else _lines
    if len(head) > 4 and 0 < int.from_bytes(head[:4], "big") <= MAX_RECORD_BYTES and head[4] == 0x0A:
        return _messages
    return _message if first and head[:1] == b"\x0a" else _lines


def _is_pretty(head: bytes) -> bool:
    """Return whether a JSON document goes on after its first line."""
    line, newline, _ = head.lstrip().partition(b"\n")
    return bool(newline) and not line.rstrip().endswith(b"}")


def _lines(name: str, file: io.BufferedReader, start: int) -> Iterator[Record]:
    end, number = 0, 0
    while line := file.readline(MAX_RECORD_BYTES):
        end, number = end + len(line), number + 1
        if end <= start or line.isspace():
            continue
        yield Record(f"{name}:{number}", end, line)


def _document(name: str, file: io.BufferedReader, start: int) -> Iterator[Record]:
    text = _all(file)
    if start < len(text):
        yield Record(name, len(text), text)


def _array(name: str, file: io.BufferedReader, start: int) -> Iterator[Record]:
    """Yield the items of an array; each counts as one byte, as its place in the file is not known."""
    try:
        items = orjson.loads(_all(file))
    except orjson.JSONDecodeError as error:
        raise MalformedError(f"not JSON: {error}") from error
    for index, item in enumerate(items):
        if index >= start:
            yield Record(f"{name}[{index}]", index + 1, orjson.dumps(item))


def _message(name: str, file: io.BufferedReader, start: int) -> Iterator[Record]:
    body = _all(file)
    if start < len(body):
        yield Record(name, len(body), body, is_json=False)


def _messages(name: str, file: io.BufferedReader, start: int) -> Iterator[Record]:
    end = 0
    while prefix := file.read(4):
        size = int.from_bytes(prefix, "big")
        body = file.read(size) if size <= MAX_RECORD_BYTES else b""
        if len(prefix) < 4 or len(body) < size:
            raise MalformedError(f"the message at byte {end} should have {size} bytes, {len(body)} are left")
        label, end = f"{name}@{end}", end + 4 + size
        if end > start:
            yield Record(label, end, body, is_json=False)


def _all(file: io.BufferedReader) -> bytes:
    data = file.read(MAX_RECORD_BYTES + 1)
    if len(data) > MAX_RECORD_BYTES:
        raise MalformedError(f"one document of more than {MAX_RECORD_BYTES} bytes; write one request a line")
    return data
