"""What a request sends, as far as it can be told without using it up: the client sends it after that.

Clients hold a body as bytes, as the fields of a form, as a file or as a stream. Of the last two only those in
memory can be read twice.
"""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import NamedTuple

_DISPOSITION = re.compile(rb'^content-disposition:.*?[; ]name="?([^";\r\n]*)', re.IGNORECASE | re.MULTILINE)
_FILENAME = re.compile(rb"^content-disposition:.*; *filename\*?=", re.IGNORECASE | re.MULTILINE)


class Field(NamedTuple):
    """A field of a form: a plain one, or a file."""

    name: str
    value: object
    is_file: bool


class Form(NamedTuple):
    """A body that the client still has as fields."""

    fields: Iterable[Field]


class Body(NamedTuple):
    """What is known of a body.

    Attributes:
        text: Without the files; the plain fields of a form are a JSON object. None: it cannot be known.
        file_bytes: Size of its files, as far as it can be told.
        files: How many files it has beside the text.
        is_form: It is sent as something else than the text.
    """

    text: bytes | str | None
    file_bytes: int = 0
    files: int = 0
    is_form: bool = False


UNKNOWN = Body(None)


def read_body(held: object) -> Body:
    """Return what is known of a body in whatever way a client holds it; None is an empty one."""
    if isinstance(held, bytes):
        is_form = held.startswith(b"--")  # as every form does, and no JSON
        return _read_form(_parts(held)) if is_form else Body(held)
    if isinstance(held, str):
        return Body(held)
    if isinstance(held, io.BytesIO):
        with held.getbuffer() as whole:
            return read_body(bytes(whole[held.tell() :]))
    if isinstance(held, bytearray | memoryview):
        return read_body(bytes(held))
    if isinstance(held, Form):
        return _read_form(held.fields)
    return UNKNOWN if held is not None else Body(b"")


def _read_form(fields: Iterable[Field]) -> Body:
    said: dict[str, list[object]] = {}
    sizes = []
    for name, value, is_file in fields:
        if is_file or not isinstance(value, str | bytes | int | float):
            sizes.append(_size(value))
        else:
            said.setdefault(name, []).append(_typed(value))
    text = json.dumps({name: each if len(each) > 1 else each[0] for name, each in said.items()})
    return Body(text, sum(sizes), len(sizes), is_form=True)


def _parts(body: bytes) -> Iterator[Field]:
    """Yield the fields of an encoded form, whose first line is what stands between them."""
    between = body.partition(b"\r\n")[0]
    for part in body.split(between)[1:]:
        head, _, value = part.partition(b"\r\n\r\n")
        if found := _DISPOSITION.search(head):
            is_file = _FILENAME.search(head) is not None
            yield Field(found[1].decode(errors="replace"), value.removesuffix(b"\r\n"), is_file)


def _typed(value: str | bytes | float) -> object:
    """Return a value as JSON would have it: forms know text only."""
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    if not isinstance(value, str):
        return value
    if value in ("true", "false"):
        return value == "true"
    return int(value) if value.isdecimal() and len(value) < 20 else value


def _size(file: object) -> int:
    if isinstance(file, str):
        return len(file)
    if isinstance(file, bytes | bytearray | memoryview):
        return memoryview(file).nbytes
    if isinstance(file, io.BytesIO):
        return file.getbuffer().nbytes
    with suppress(Exception):
        return os.fstat(file.fileno()).st_size  # type: ignore[attr-defined]
    return 0
