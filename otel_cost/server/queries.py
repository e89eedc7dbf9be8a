"""ClickHouse's HTTP interface, for reading: what clickhouse-connect, Grafana and scripts speak.

https://clickhouse.com/docs/interfaces/http
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import uuid
from collections.abc import Callable, Mapping
from email.parser import BytesParser
from email.policy import HTTP

import orjson
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from otel_cost.server.guard import Guard
from otel_cost.store.reader import MAX_QUERY_CHARS, Answer, Reader
from otel_cost.store.screen import QueryRefusedError, is_transport

PROXY_PATH = "/clickhouse"
CONCURRENT_QUERIES = 4
"""Queries that run side by side; more wait."""
_AUTHENTICATION_FAILED, _NOT_IMPLEMENTED, _TOO_LARGE = 516, 48, 307
_STATUS = {
    62: 400,
    36: 400,
    27: 400,
    53: 400,
    456: 400,
    46: 404,
    47: 404,
    60: 404,
    81: 404,
    115: 404,
    164: 403,
}
_STATUS |= {516: 403, 48: 501, 159: 408, 307: 413, 241: 500}
_CONTENT_TYPES = {
    "JSON": "application/json; charset=UTF-8",
    "JSONCompact": "application/json; charset=UTF-8",
    "JSONEachRow": "application/x-ndjson; charset=UTF-8",
    "JSONCompactEachRow": "application/x-ndjson; charset=UTF-8",
    "TabSeparated": "text/tab-separated-values; charset=UTF-8",
    "TSV": "text/tab-separated-values; charset=UTF-8",
    "CSV": "text/csv; charset=UTF-8; header=absent",
    "CSVWithNames": "text/csv; charset=UTF-8; header=present",
    "Native": "application/octet-stream",
    "RowBinary": "application/octet-stream",
    "Parquet": "application/octet-stream",
    "Arrow": "application/octet-stream",
}


class QueryEndpoint:
    """The read endpoint over one store.

    Args:
        catch_up: Brings what a query reads up to date, before it.
    """

    def __init__(self, reader: Reader, catch_up: Callable[[str], None] = lambda _: None) -> None:
        self._reader, self._catch_up = reader, catch_up
        self._running = asyncio.Semaphore(CONCURRENT_QUERIES)

    def routes(self, guard: Guard) -> list[Route]:
        """Return the routes to mount."""

        async def query(request: Request) -> Response:
            try:
                _authorize(request, guard)
                return await self._query(request)
            except QueryRefusedError as error:
                return _refusal(error)

        async def ping(request: Request) -> Response:
            return PlainTextResponse("Ok.\n")

        return [
            Route(f"{PROXY_PATH}/ping", ping),
            Route(PROXY_PATH, query, methods=["GET", "POST"]),
            Route(f"{PROXY_PATH}/", query, methods=["GET", "POST"]),
        ]

    async def _query(self, request: Request) -> Response:
        fields = {**request.query_params, **await _form(request)}
        sql = fields.get("query", "")
        if request.method == "POST" and not _is_form(request):
            sql += (await _text(request)) if not sql else "\n" + await _text(request)
        if not sql.strip():
            return PlainTextResponse("Ok.\n")
        if fields.get("compress") == "1":
            raise QueryRefusedError(_NOT_IMPLEMENTED, "compress=1 is not supported here. (NOT_IMPLEMENTED)")
        async with self._running:
            answer = await asyncio.to_thread(self._answer, request, fields, sql)
        return self._response(answer, fields.get("query_id", ""))

    def _answer(self, request: Request, fields: Mapping[str, str], sql: str) -> Answer:
        headers = request.headers
        self._catch_up(sql)
        return self._reader.answer(
            sql,
            params={name[6:]: value for name, value in fields.items() if name.startswith("param_")},
            settings={name: value for name, value in fields.items() if not is_transport(name)},
            fmt=headers.get("x-clickhouse-format") or fields.get("default_format") or "TabSeparated",
            database=headers.get("x-clickhouse-database") or fields.get("database") or None,
        )

    def _response(self, answer: Answer, query_id: str) -> Response:
        summary = {
            "read_rows": str(answer.rows_read),
            "read_bytes": str(answer.bytes_read),
            "elapsed_ns": str(answer.elapsed_ns),
        }
        headers = {
            "X-ClickHouse-Server-Display-Name": "otel-cost",
            "X-ClickHouse-Query-Id": query_id or str(uuid.uuid4()),
            "X-ClickHouse-Format": answer.format,
            "X-ClickHouse-Timezone": self._reader.timezone,
            "X-ClickHouse-Summary": orjson.dumps(summary).decode(),
            "Content-Type": _CONTENT_TYPES.get(answer.format, "text/plain; charset=UTF-8"),
        }
        return Response(answer.data, headers=headers)


def _authorize(request: Request, guard: Guard) -> None:
    if guard.is_foreign(request):
        message = "Requests from web pages are not served. (AUTHENTICATION_FAILED)"
        raise QueryRefusedError(_AUTHENTICATION_FAILED, message)
    headers, authorization = request.headers, request.headers.get("authorization", "")
    key = headers.get("x-clickhouse-key", "") or request.query_params.get("password", "")
    if not guard.has_bearer(authorization) and not guard.has_token(key, _basic_password(authorization)):
        message = "A token is needed, as bearer token or password. (AUTHENTICATION_FAILED)"
        raise QueryRefusedError(_AUTHENTICATION_FAILED, message)


def _basic_password(authorization: str) -> str:
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() != "basic":
        return ""
    try:
        return base64.b64decode(value, validate=True).decode().partition(":")[2]
    except (binascii.Error, UnicodeDecodeError):
        return ""


async def _text(request: Request) -> str:
    body = await _body(request)
    try:
        return body.decode()
    except UnicodeDecodeError:
        raise QueryRefusedError(62, "The query is not UTF-8. (SYNTAX_ERROR)") from None


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > 4 * MAX_QUERY_CHARS:
            raise QueryRefusedError(_TOO_LARGE, "The query is too long. (TOO_LARGE_SIZE)")
    return bytes(body)


def _is_form(request: Request) -> bool:
    return request.headers.get("content-type", "").lower().startswith("multipart/form-data")


async def _form(request: Request) -> dict[str, str]:
    """Return the fields of a multipart form, which clients use for long parameters."""
    if request.method != "POST" or not _is_form(request):
        return {}
    head = f"Content-Type: {request.headers['content-type']}\r\n\r\n".encode()
    message = BytesParser(policy=HTTP).parsebytes(head + await _body(request))
    fields = {}
    for part in message.iter_parts():
        content = part.get_payload(decode=True)
        name = part.get_param("name", header="content-disposition")
        if isinstance(content, bytes) and isinstance(name, str):
            fields[name] = content.decode(errors="replace")
    return fields


def _refusal(error: QueryRefusedError) -> Response:
    """Return an error as ClickHouse writes it, which clients parse."""
    status = _STATUS.get(error.code, 500)
    headers = {"X-ClickHouse-Exception-Code": str(error.code)}
    if error.code == _AUTHENTICATION_FAILED:
        headers["WWW-Authenticate"] = 'Basic realm="otel-cost"'
    return PlainTextResponse(f"Code: {error.code}. DB::Exception: {error}\n", status, headers)
