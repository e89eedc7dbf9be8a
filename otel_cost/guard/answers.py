"""What a provider's answer says it used, whole or streamed, read from the bytes as they pass.

Where a stream ends early, the usage it never sent is estimated from the text it did send.
"""

from __future__ import annotations

import base64
import json
import re
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from decimal import Decimal
from functools import lru_cache
from typing import Any, NamedTuple

from otel_cost import documents
from otel_cost.charging import billed_usd
from otel_cost.guard import reported
from otel_cost.guard.calls import tier_of
from otel_cost.guard.encodings import decoder
from otel_cost.guard.repeats import TEXT_KEYS, Repeats
from otel_cost.guard.searches import Listed
from otel_cost.usage import UNITS, Usage, to_usage, whole_counts

Json = dict[str, Any]

MAX_PENDING_BYTES = 8 * 1024 * 1024
"""Longest event kept while it is incomplete; a longer one is given up, and the usage in it is not known."""
TAIL_BYTES = 64 * 1024
"""What is kept of a longer document: its end."""
_USAGE_AT_END = re.compile(r'"(usage|usageMetadata)"\s*:\s*(?=\{)')

_USAGE_PLACES = (
    ("usage",),  # OpenAI chat, Anthropic, Bedrock Converse, Cohere v2, Mistral
    ("response", "usage"),  # OpenAI responses: response.completed
    ("message", "usage"),  # Anthropic: message_start
    ("usageMetadata",),  # Gemini
    ("interaction", "usage"),  # Gemini's interactions: interaction.completed
    ("metadata", "total_usage"),  # what the events before it say
    ("delta", "usage"),  # Cohere v2: message-end
    ("x_groq", "usage"),  # Groq
    ("meta",),  # Cohere v1
)
_SEARCH_HOLDERS = frozenset({"candidates", "output", "item", "response"})
_OUTPUT_KEYS = frozenset(path[0] for path in documents.PROVIDER_USAGE["output_tokens"])
_TOTALS = frozenset({"input_tokens", "output_tokens", "total_tokens"})
"""Amounts that tell something even at 0; a part that is 0 is as good as not said."""
_NAMES = frozenset({"id", "model", "modelVersion", "responseId", "service_tier", "serviceTier"})
_USAGE_HOLDERS = frozenset(place[0] for place in _USAGE_PLACES)
_INTERACTION_GOES_ON = frozenset({"interaction.created", "interaction.status_update"})
_WHOLES = ("response.", "interaction.")
_NO_OUTPUT = {"output_tokens": None, "output_tokens_details": None}
_SEARCHES = b"webSearchQueries"
_NAMED = ("response", "message", "interaction")
"""What a stream's events hold the answer in, with its names."""


class Text(NamedTuple):
    """A text that a model wrote: its UTF-8 bytes, and the events of a stream that brought it."""

    bytes: int = 0
    events: int = 0


NO_TEXT = Text()


class Answer:
    """What is known of one answer so far.

    Attributes:
        model: As the provider names it; empty until it does.
        response_id: The provider's name of the answer; empty until it says.
        service_tier: As the provider names it; empty where it does not.
        output_bytes: UTF-8 bytes of text received.
        output_events: Events that brought text.
        is_final: The provider has said what the whole answer used. Anthropic's first event says a part,
            Gemini's events say what was used so far.
    """

    __slots__ = (
        "_counted",
        "_has_ended",
        "_reported",
        "_searches",
        "_told",
        "is_final",
        "model",
        "output_bytes",
        "output_events",
        "response_id",
        "service_tier",
    )

    def __init__(self) -> None:
        self.model = ""
        self.response_id = ""
        self.service_tier = ""
        self.output_bytes = 0
        self.output_events = 0
        self.is_final = False
        self._reported: dict[str, Any] = {}
        self._counted: dict[str, int] | None = None
        self._searches: Listed | None = None
        self._told: Text | None = None
        self._has_ended = False

    @property
    def text(self) -> Text:
        """All the text that was received."""
        return Text(self.output_bytes, self.output_events)

    @property
    def untold(self) -> Text:
        """The text that came after the last word on the output; after a whole answer there is none."""
        told = self._told or NO_TEXT
        return Text(self.output_bytes - told.bytes, self.output_events - told.events)

    @property
    def tells_output(self) -> bool:
        """Whether the provider has said anything of the output."""
        return self._told is not None

    def usage_of(self, is_embedding: bool) -> Usage | None:
        """Return what the provider said it used; None as long as it has not said all."""
        return self._usage("embeddings" if is_embedding else "") if self.is_final or is_embedding else None

    @property
    def usage_so_far(self) -> Usage | None:
        """What it said of a part: Anthropic tells the input at the start, Gemini all of it all along."""
        return self._usage("")

    @property
    def billed_usd(self) -> Decimal | None:
        """What the provider says it bills, where its usage says that; only some are to be believed."""
        return billed_usd(self._reported)

    @property
    def inference_geo(self) -> str:
        """Where Anthropic ran the inference, as its usage says; empty where it does not."""
        geo = self._reported.get("inference_geo")
        return geo if isinstance(geo, str) else ""

    @property
    def untold_searches(self) -> int:
        """Web searches that the answer lists and its usage does not count."""
        return 0 if self._searches is None else self._searches.web(self.model)

    def with_searches(self, usage: Usage) -> Usage:
        """Return usage with the searches that the answer lists and its usage does not count."""
        if self._searches is None:
            return usage
        web, files = self.untold_searches, self._searches.files
        if not (web or files):
            return usage
        return usage._replace(web_searches=web or usage.web_searches, file_searches=files)

    def _usage(self, operation: str) -> Usage | None:
        counts = {name: count for name, count in self._counts().items() if count or name in _TOTALS}
        exclusive = documents.input_excludes_cache(self._reported)
        usage = to_usage(counts, exclusive=exclusive, operation=operation)
        if usage is None:
            units = {unit: counts[unit] for unit in UNITS if unit in counts}
            return Usage(**units) if units else None
        return self.with_searches(usage)

    def _counts(self) -> dict[str, int]:
        if self._counted is None:
            self._counted = whole_counts(reported.amounts(self._reported), [])
        return self._counted

    def wrote(self, text_bytes: int) -> None:
        """Count the text of one event of a stream; an event without any is not counted."""
        if text_bytes:
            self.output_bytes += text_bytes
            self.output_events += 1

    def take(self, document: Json, *, is_whole: bool = False) -> None:
        """Learn from a whole answer, or from one event of a streamed one."""
        if not is_whole:
            self.wrote(event_bytes(document))
        self._has_ended = self._has_ended or is_whole or not _goes_on(document)
        if not _USAGE_HOLDERS.isdisjoint(document):
            self._take_usage(document)
        if not _SEARCH_HOLDERS.isdisjoint(document):
            self._searches = self._searches or Listed()
            self._searches.take(document)
        if "prompt_eval_count" in document or "eval_count" in document:
            # https://docs.ollama.com/api#response: on the last line of a stream
            self._merge(
                {
                    "prompt_tokens": document.get("prompt_eval_count", 0),
                    "completion_tokens": document.get("eval_count", 0),
                }
            )
            self.is_final = True
        self._name(document)
        if is_whole and not self.is_final:  # else its text tells nothing that its usage does not
            self.output_bytes += text_bytes(document)

    def _take_usage(self, document: Json) -> None:
        for place in _USAGE_PLACES:
            if place[0] not in document:
                continue
            found = documents.at(document, place)
            if isinstance(found, dict) and found:
                is_start = document.get("type") == "message_start"
                self._merge({**found, **_NO_OUTPUT} if is_start else found)
                if self._has_ended and not (is_start or self.is_final):
                    self.is_final = any(self._counts().values())  # all 0 is not told

    def _merge(self, usage: Mapping[str, Any]) -> None:
        """Later amounts replace earlier ones: streams repeat running totals."""
        for units in ("billed_units", "tokens"):  # Cohere
            if units in usage and isinstance(usage[units], dict):
                usage = usage[units]
                break
        said = usage
        if None in usage.values():
            said = {name: value for name, value in usage.items() if value is not None}
        self._reported.update(said)
        self._counted = None
        if not _OUTPUT_KEYS.isdisjoint(said):
            self._told = self.text

    def _name(self, document: Json) -> None:
        self._name_of(document)
        for key in _NAMED:
            if key in document and isinstance(document[key], dict):
                self._name_of(document[key])
        if self._reported:
            self._name_of(self._reported)
            self.service_tier = reported.service_tier(self._reported) or self.service_tier

    def _name_of(self, holder: Json) -> None:
        if _NAMES.isdisjoint(holder):
            return
        model = holder.get("model") or holder.get("modelVersion")
        if isinstance(model, str):
            self.model = model
        self.service_tier = tier_of(holder) or self.service_tier
        named = holder.get("id") or holder.get("responseId")
        if isinstance(named, str) and not self.response_id:
            self.response_id = named


class Reader:
    """Reads an answer from its bytes, whatever pieces they come in.

    Args:
        content_type: Of the response; tells a stream from a document.
        content_encoding: Of the response, as `encodings.decoder` knows it.

    Raises:
        LookupError: The encoding is not known, so nothing can be read.
    """

    def __init__(self, content_type: str = "", content_encoding: str = "") -> None:
        self.answer = Answer()
        self._pending = bytearray()
        self._repeats = Repeats()
        self._split = _splitter(content_type)
        self._decode = decoder(content_encoding)
        self._gave_up = self._is_cut = False

    def feed(self, data: bytes, *, is_decoded: bool = False) -> None:
        """Take the next bytes of the response, as they were sent or with their encoding undone."""
        if self._gave_up or not data:
            return
        if self._decode is not None and not is_decoded:
            data = self._decode(data)
        for event in self._split(self._pending, data, False):
            self._take(event)
        if len(self._pending) > MAX_PENDING_BYTES:
            self._give_up_most()

    def _give_up_most(self) -> None:
        """Keep the end of a document, where its usage stands behind pictures or sound."""
        if self._split is _document:
            del self._pending[:-TAIL_BYTES]
            self._is_cut = True
        else:
            self._gave_up = True
            self._pending.clear()

    def finish(self) -> Answer:
        """Return what is known once no more bytes come."""
        if self._is_cut:
            self.answer.take(_end_of_document(bytes(self._pending)), is_whole=True)
        elif not self._gave_up:
            for event in self._split(self._pending, b"", True):
                for document in _parse(event):
                    self.answer.take(document, is_whole=self._split is _document)
        return self.answer

    def _take(self, event: bytes) -> None:
        """Learn from one event: most only add text, and are known by their bytes."""
        answer = self.answer
        written = self._repeats.text_bytes(event)
        if written is not None:
            answer.wrote(written)
            return
        for document in _parse(event):
            before = answer.output_bytes, answer.model, answer.service_tier
            answer.take(document)
            if (answer.model, answer.service_tier) != before[1:]:
                self._repeats.forget()
            written = answer.output_bytes - before[0]
            if written and self._repeats.looks() and not (_tells_usage(document) or _SEARCHES in event):
                self._repeats.learn(event, written)


def read_answer(body: bytes, content_type: str = "") -> Answer:
    """Return what a whole answer says, be it a document or a stream that was read to its end."""
    if _splitter(content_type) is not _document or len(body) > MAX_PENDING_BYTES:
        reader = Reader(content_type)
        reader.feed(body)
        return reader.finish()
    answer = Answer()
    for document in _parse(body):
        answer.take(document, is_whole=True)
    return answer


Splitter = Callable[[bytearray, bytes, bool], Iterable[bytes]]
"""Takes further bytes, and whether they are the last; gives what is whole by now and keeps the rest."""


@lru_cache(maxsize=64)
def _splitter(content_type: str) -> Splitter:
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "text/event-stream":
        return _events
    if kind == "application/vnd.amazon.eventstream":
        return _aws_messages
    if kind in ("application/x-ndjson", "application/jsonl"):
        return _lines
    return _document


def _events(pending: bytearray, data: bytes, is_end: bool) -> list[bytes]:
    """Events of one data line each: https://html.spec.whatwg.org/multipage/server-sent-events.html."""
    return [line[5:].strip() for line in _lines(pending, data, is_end) if line[:5] == b"data:"]


def _lines(pending: bytearray, data: bytes, is_end: bool) -> list[bytes]:
    whole, newline, rest = (data, b"\n", b"") if is_end else data.rpartition(b"\n")
    if newline and pending:
        whole = bytes(pending) + whole
        pending.clear()
    pending += rest
    return whole.split(b"\n") if newline else []


def _document(pending: bytearray, data: bytes, is_end: bool) -> Iterable[bytes]:
    """One document, or the array that Gemini streams when it is not asked for events."""
    pending += data
    if not is_end:
        return ()
    whole = bytes(pending)
    pending.clear()
    return (whole,)


def _aws_messages(pending: bytearray, data: bytes, is_end: bool) -> Iterator[bytes]:
    """Lengths, headers, payload, checksums: https://docs.aws.amazon.com/transcribe/latest/dg/event-stream.html."""
    pending += data
    while len(pending) >= 16:
        total, headers = struct.unpack_from("!II", pending)
        if total < 16 or headers > total - 16:
            pending.clear()
            return
        if len(pending) < total:
            return
        payload = bytes(pending[12 + headers : total - 4])
        del pending[:total]
        yield from _invoked(payload)


def _invoked(payload: bytes) -> Iterator[bytes]:
    """InvokeModel puts the model's own event into base64."""
    if b'"bytes"' not in payload:
        yield payload
        return
    for document in _parse(payload):
        inner = document.get("bytes")
        if not isinstance(inner, str):
            yield payload
            return
        with suppress(ValueError):
            yield base64.b64decode(inner)


_JSON = json.JSONDecoder()


def _end_of_document(tail: bytes) -> Json:
    """Return the usage that stands in the end of a document; empty where there is none."""
    text = tail.decode(errors="replace")
    for found in reversed(list(_USAGE_AT_END.finditer(text))):
        with suppress(ValueError, RecursionError):
            return {found[1]: _JSON.raw_decode(text, found.end())[0]}
    return {}


def _parse(text: bytes) -> Iterable[Json]:
    """Return the objects that a text holds, in an array or alone; none where it is not JSON."""
    text = text.strip()
    if text[:1] not in (b"{", b"["):
        return ()
    try:
        read = documents.read_json(text.decode())
    except (ValueError, RecursionError):
        return ()
    return [item for item in read if isinstance(item, dict)] if isinstance(read, list) else (read,)


def _goes_on(event: Json) -> bool:
    """Whether more of the answer follows, as far as an event tells."""
    if "event_type" in event:  # Gemini's interactions
        kind = str(event["event_type"])
        return not kind.startswith("interaction.") or kind in _INTERACTION_GOES_ON
    choices = event.get("candidates") or event.get("choices")
    if not isinstance(choices, list) or not choices:
        return False
    for each in choices:
        if isinstance(each, dict) and (each.get("finishReason") or each.get("finish_reason")):
            return False
    return True


def event_bytes(event: Json) -> int:
    """Return the bytes of text that an event adds; OpenAI repeats at its end what came in parts."""
    kind = event.get("type", event.get("event_type"))
    if isinstance(kind, str) and kind.startswith(_WHOLES) and not kind.endswith(".delta"):
        return 0
    return text_bytes(event)


def text_bytes(value: Any, key: str = "") -> int:
    """Return the UTF-8 bytes of the text that a piece of an answer holds; `value` is as JSON is read."""
    kind = type(value)
    if kind is dict:
        total = 0
        for name, item in value.items():
            kind = type(item)
            if kind is str:
                if name in TEXT_KEYS:
                    total += _size(item)
            elif kind is dict or kind is list:
                total += text_bytes(item, name)
        return total
    if kind is list:
        return sum([text_bytes(item, key) for item in value])
    return _size(value) if kind is str and key in TEXT_KEYS else 0


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def _tells_usage(event: Json) -> bool:
    if "prompt_eval_count" in event or "eval_count" in event:
        return True
    return any(isinstance(documents.at(event, place), dict) for place in _USAGE_PLACES)
