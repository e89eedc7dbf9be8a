"""Content encodings of answers, undone as the bytes pass: the same ones that HTTP clients ask for.

A client asks for `br` and `zstd` when it finds a library that undoes them, and so does this module.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from importlib import import_module

Decode = Callable[[bytes], bytes]

_MAKERS: dict[str, tuple[tuple[str, str], ...]] = {
    "br": (("brotli", "Decompressor"), ("brotlicffi", "Decompressor")),
    "zstd": (
        ("compression.zstd", "ZstdDecompressor"),
        ("backports.zstd", "ZstdDecompressor"),
        ("zstandard", "ZstdDecompressor"),
    ),
}
"""Where a decompressor may be found, in the order in which it is looked for."""


def decoder(content_encoding: str) -> Decode | None:
    """Return what undoes an encoding piece by piece; None where there is none to undo.

    Raises:
        LookupError: It is an encoding that nothing here undoes.
    """
    if not content_encoding:
        return None
    codings = [coding.strip().lower() for coding in content_encoding.split(",")]
    decoders = [_decoder(coding) for coding in reversed(codings) if coding not in ("", "identity")]
    if len(decoders) < 2:
        return decoders[0] if decoders else None

    def decode(data: bytes) -> bytes:
        for each in decoders:
            data = each(data)
        return data

    return decode


def _decoder(coding: str) -> Decode:
    if coding in ("gzip", "x-gzip"):
        return zlib.decompressobj(31).decompress
    if coding == "deflate":
        return _Deflate().decompress
    for module, name in _MAKERS.get(coding, ()):
        try:
            made = getattr(import_module(module), name)()
        except ImportError:
            continue
        made = made.decompressobj() if hasattr(made, "decompressobj") else made
        decode: Decode = getattr(made, "decompress", None) or made.process
        return decode
    raise LookupError(f"content encoding {coding!r} cannot be read here")


class _Deflate:
    """Deflate with its header, or without, as some servers send it (https://www.rfc-editor.org/rfc/rfc9110#name-deflate-coding)."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj()
        self._is_first = True

    def decompress(self, data: bytes) -> bytes:
        is_first, self._is_first = self._is_first and bool(data), self._is_first and not data
        try:
            return self._inner.decompress(data)
        except zlib.error:
            if not is_first:
                raise
            self._inner = zlib.decompressobj(-zlib.MAX_WBITS)
            return self._inner.decompress(data)
