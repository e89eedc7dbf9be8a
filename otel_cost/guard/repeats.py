"""Events of a stream that say the same as an earlier one but for the text in them, known by their bytes.

Most events of a stream do, and to look at their bytes takes a fifth of the time of reading them as JSON.
"""

from __future__ import annotations

from typing import NamedTuple

TEXT_KEYS = frozenset(
    {
        "content",
        "text",
        "delta",
        "thinking",
        "partial_json",
        "arguments",
        "reasoning",
        "reasoning_content",
        "refusal",
        "input",
        "output",
        "transcript",
        "generation",
        "response",
        "completion",
    }
)
"""Where streamed text stands, in whichever API."""
_PADDING_KEYS = frozenset({"obfuscation", "p", "created_at"})
"""Strings of no meaning here that differ in each event: OpenAI's and Bedrock's padding, Ollama's clock."""
_NUMBER_KEYS = frozenset({"sequence_number"})
"""Numbers of no meaning here that differ in each event: OpenAI's responses count them."""
_TEXTS = frozenset(key.encode() for key in TEXT_KEYS)
_PADDINGS = frozenset(key.encode() for key in _PADDING_KEYS)
_NUMBERS = frozenset(key.encode() for key in _NUMBER_KEYS)
_CHANCES = 8
"""How many events of a stream are looked at for a pattern: some streams repeat nothing."""


class _Gap(NamedTuple):
    """What may differ between two events, and what follows it in both.

    Attributes:
        is_text: The model wrote it.
        is_number: It is digits; otherwise the inside of a string.
        end: The byte it ends before.
        rest: What follows up to the next gap, or to the end.
    """

    is_text: bool
    is_number: bool
    end: bytes
    rest: bytes


class _Pattern(NamedTuple):
    """What two events have in common.

    Attributes:
        head: What stands before the first gap.
        other_bytes: Of text that stands in no gap.
    """

    head: bytes
    gaps: tuple[_Gap, ...]
    other_bytes: int


class Repeats:
    """The pattern of a stream's events, learnt from those that were read."""

    __slots__ = ("_chances", "_pattern")

    def __init__(self) -> None:
        self._pattern: _Pattern | None = None
        self._chances = _CHANCES

    def text_bytes(self, event: bytes) -> int | None:
        """Return the UTF-8 bytes of the text in an event that repeats all else; None for any other event."""
        if self._pattern is None or b"\\" in event:  # without escapes, each quote begins or ends a string
            return None
        head, gaps, total = self._pattern
        if not event.startswith(head):
            return None
        at = len(head)
        for is_text, is_number, end, rest in gaps:
            ends_at = event.find(end, at)
            if ends_at < 0 or not event.startswith(rest, ends_at):
                return None
            if is_text:
                total += ends_at - at
            elif is_number and not event[at:ends_at].isdigit():
                return None
            at = ends_at + len(rest)
        return total if at == len(event) and (event.isascii() or _is_utf8(event)) else None

    def looks(self) -> bool:
        """Whether to look at another event for a pattern; the answer is yes a few times only."""
        if not self._chances:
            return False
        self._chances -= 1
        return True

    def learn(self, event: bytes, text_bytes: int) -> None:
        """Take an event as the pattern of those that follow.

        Args:
            event: JSON of an object that says nothing new but text.
            text_bytes: UTF-8 bytes of the text in it.
        """
        if event[:1] == b"{" and b"\\" not in event:
            self._pattern = _pattern(event, text_bytes)

    def forget(self) -> None:
        """What earlier events said does not hold any longer."""
        self._pattern = None


def _pattern(event: bytes, text_bytes: int) -> _Pattern | None:
    """Return what is left of an event without its texts, paddings and numbers; None where it has no text."""
    pieces = event.split(b'"')  # strings at odd places, what is between them at even ones
    common = [b""]
    gaps: list[tuple[bool, bool]] = []
    for place, piece in enumerate(pieces):
        key = pieces[place - 2] if place % 2 and place > 1 and pieces[place - 1].strip() == b":" else b""
        if key in _TEXTS or key in _PADDINGS:
            gaps.append((key in _TEXTS, False))
            common[-1] += b'"' * (place > 0)
            common.append(b"")
            text_bytes -= len(piece) * (key in _TEXTS)
        elif place % 2 == 0 and place and pieces[place - 1] in _NUMBERS:
            digits = piece.lstrip(b": ")
            rest = digits.lstrip(b"0123456789")
            common[-1] += b'"' + piece[: len(piece) - len(digits)]
            gaps.append((False, True))
            common.append(rest)
        else:
            common[-1] += b'"' * (place > 0) + piece
    if text_bytes < 0 or not any(is_text for is_text, _ in gaps) or not all(common[1:]):
        return None
    return _Pattern(
        common[0],
        tuple(
            _Gap(is_text, is_number, rest[:1], rest)
            for (is_text, is_number), rest in zip(gaps, common[1:], strict=True)
        ),
        text_bytes,
    )


def _is_utf8(event: bytes) -> bool:
    try:
        event.decode()
    except UnicodeDecodeError:
        return False
    return True
