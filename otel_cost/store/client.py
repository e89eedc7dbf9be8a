"""Open a ClickHouse, embedded or remote, and ask it things by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Result:
    """The answer of a named query: column names, and rows of typed values (money is `Decimal`)."""

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]

    def dicts(self) -> list[dict[str, Any]]:
        """Return the rows as one mapping each, keyed by column name."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]


class Store:
    """One database of spans and charges. Use it from several threads; statements run one at a time."""

    def migrate(self) -> list[str]:
        """Create or upgrade the tables and views. Returns the names of what was applied."""
        raise NotImplementedError

    def insert_spans(self, columns: Mapping[str, Sequence[Any]]) -> None:
        """Store a batch of spans, price them and decide which count. On return they are on disk.

        One insert per call, whatever its size: a few thousand spans a call is best, and one costs nearly as much
        as a thousand. Delivering a batch again is harmless: it heals a batch that a crash left half written.

        Args:
            columns: Every column of `SPAN_COLUMNS`, sequences of one length:

                - Timestamp: start, `int` nanoseconds since the epoch; Duration: `int` nanoseconds, 0 or more
                - TraceId (32), SpanId (16), ParentSpanId (16 or empty): lower-case hexadecimal `str`
                - TraceState, SpanName, ServiceName, ScopeName, ScopeVersion, StatusMessage: `str`, empty when absent
                - SpanKind: Unspecified, Internal, Server, Client, Producer or Consumer
                - StatusCode: Unset, Ok or Error
                - ResourceAttributes, SpanAttributes: `dict[str, str]`; values as the Collector writes them
                  (`true`, `12`, `0.5`, JSON for arrays and maps, base64 for bytes)
                - Events.Timestamp: list of `int` nanoseconds; Events.Name: list of `str`; Events.Attributes: list of
                  `dict[str, str]`; the three lists of a span have one length
                - Links.TraceId, Links.SpanId, Links.TraceState: list of `str`; Links.Attributes: list of dict

        Raises:
            StoreError: The store refused the batch. Nothing is acknowledged; send it again.
        """
        raise NotImplementedError

    def account(self, trace_ids: Iterable[str]) -> None:
        """Decide again which spans of these traces count. Running it twice changes nothing."""
        raise NotImplementedError

    def query(self, name: str, **params: Any) -> Result:
        """Run the named query `queries/<name>.sql` with typed server-side parameters."""
        raise NotImplementedError

    def sql(
        self, text: str, params: Mapping[str, Any] | None = None, fmt: str = "JSONEachRow", *, readonly: bool = True
    ) -> bytes:
        """Run any statement and return its output in a ClickHouse format."""
        raise NotImplementedError

    def push_prices(self, book: Any) -> None:
        """Replace the prices and model patterns by those of a price book."""
        raise NotImplementedError

    def close(self) -> None:
        """Release the store. Closing twice is harmless."""
        raise NotImplementedError


def open_store(dsn: str | None = None) -> Store:
    """Open the store at a DSN: `chdb:///path`, `clickhouse://user:password@host:8123/database` or `clickhouses://`.

    Default: OTEL_COST_STORE, else an embedded store below the XDG data directory.

    Raises:
        ConfigError: The DSN cannot be understood.
        StoreBusyError: Another process owns the embedded store.
        StoreError: The server cannot be reached.
    """
    raise NotImplementedError
