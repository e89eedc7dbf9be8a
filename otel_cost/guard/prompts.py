"""How many tokens a prompt can be at most, from its bytes and from what it has in common with an earlier one.

An agent sends its whole history with every call. What was counted before is known, so only what is new has to
be bounded: what stands between the common beginning and the common end of the two requests.

Measured with the tokenizers of GPT-4 (cl100k), GPT-4o (o200k), Claude 2 and DeepSeek V3, 2026-11, in tokens a
byte: English 0.25, code 0.23 to 0.42, German and Finnish 0.4, random lowercase letters 0.54, hexadecimal
digits 0.6, base64 0.72, rare scripts 0.99. Only lowercase letters are cheap in whatever people and programs
write.
"""

from __future__ import annotations

import math
from typing import NamedTuple
from zlib import crc32

BLOCKS = 32
"""Pieces that a prompt is compared in: what is new is known to a 32nd of the prompt."""
LEAST_BLOCK_BYTES = 512
"""Of a smaller piece, comparing takes longer than what it saves is worth."""
SEAM_TOKENS = 16
"""A text that is cut in three has a token more at each cut, or a few where a word is cut."""
MOST_TOKENS_PER_LETTER = 0.6
"""Of lowercase letters, whatever they spell; any other byte can be a token."""

_LOWERCASE = bytes(range(ord("a"), ord("z") + 1))


class Sketch(NamedTuple):
    """Checksums of a prompt's pieces, counted from its beginning and from its end."""

    size: int
    block: int
    head: tuple[int, ...]
    tail: tuple[int, ...]


def most_tokens(text: bytes) -> int:
    """Return how many tokens a text can be, whatever it says."""
    others = len(text.translate(None, _LOWERCASE))
    return others + math.ceil(MOST_TOKENS_PER_LETTER * (len(text) - others))


def least_most_tokens(size: int) -> float:
    """Return what `most_tokens` is at least, for a text of so many bytes."""
    return MOST_TOKENS_PER_LETTER * size


def sketch(text: bytes) -> Sketch:
    """Return what is needed to tell later what another prompt has in common with this one."""
    size, view = len(text), _sliceable(text)
    block = max(LEAST_BLOCK_BYTES, -(-size // BLOCKS))
    head = [crc32(view[at : at + block]) for at in range(0, size - block + 1, block)]
    tail = [crc32(view[at - block : at]) for at in range(size, block - 1, -block)]
    return Sketch(size, block, tuple(head), tuple(tail))


def _sliceable(text: bytes) -> bytes | memoryview:
    """Return what gives slices of a text the fastest: small ones are copied sooner than looked at."""
    return text if len(text) <= BLOCKS * LEAST_BLOCK_BYTES else memoryview(text)


def new_part(text: bytes, before: Sketch) -> bytes:
    """Return what of a prompt is not in the earlier one, some common bytes on both sides included."""
    size, block, view = len(text), before.block, _sliceable(text)
    start = 0
    for checksum in before.head:
        if start + block > size or crc32(view[start : start + block]) != checksum:
            break
        start += block
    end, common = size, min(size, before.size) - start
    for checksum in before.tail:
        common -= block
        if common < 0 or crc32(view[end - block : end]) != checksum:
            break
        end -= block
    return text[start:end]
