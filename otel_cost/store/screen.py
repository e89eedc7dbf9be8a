"""What a stranger may ask: one reading statement, of our tables only, with harmless settings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

READONLY, SYNTAX_ERROR, UNKNOWN_SETTING = 164, 62, 115
"""ClickHouse's error codes for what is refused here."""

_TOKEN = re.compile(r"'(?:[^'\\]|\\.)*'|`(?:[^`\\]|\\.)*`|\"(?:[^\"\\]|\\.)*\"|\w+|[^\s\w]", re.DOTALL)
_READING = ("SELECT", "WITH", "SHOW", "DESCRIBE", "DESC", "EXPLAIN", "EXISTS")
_OPEN_TABLE_FUNCTIONS = frozenset(
    re.findall(
        r"\w+",
        "dictionary format generaterandom generate_series generateseries merge mergetreeindex null numbers "
        "numbers_mt primes sqlstandardvalues values view viewexplain viewifpermitted zeros zeros_mt",
    )
)
_CLOSED_FUNCTIONS = frozenset({"file", "python", "catboostevaluate", "showcertificate", "input", "eval"})
_SETTINGS = re.compile(
    r"(?:output_format|date_time|optimize|query_plan|join|group_by|totals|distinct)_\w+|"
    r"max_threads|max_block_size|max_result_rows|max_result_bytes|max_execution_time|max_memory_usage|max_rows_to_group_by|"
    r"result_overflow_mode|"
    r"final|do_not_merge_across_partitions_select_final|log_comment|extremes|session_timezone|limit|offset|"
    r"cast_string_to_dynamic_use_inference|enable_analyzer|allow_experimental_analyzer|use_query_cache|"
    r"prefer_column_name_to_alias|transform_null_in|aggregate_functions_null_for_empty|any_join_\w+|"
    r"cancel_http_readonly_queries_on_client_close|use_skip_indexes_if_final|use_skip_indexes"
)
_TRANSPORT = re.compile(
    r"query|query_id|database|default_format|user|password|quota_key|session_\w+|compress|decompress|buffer_size|"
    r"wait_end_of_query|client_protocol_version|role|stacktrace|send_progress_in_http_headers|readonly|"
    r"http_headers_progress_interval_ms|enable_http_compression|http_zlib_compression_level|http_write_\w+|"
    r"http_response_\w+|param_\w+"
)


class QueryRefusedError(Exception):
    """A query that is not answered, with ClickHouse's code for why."""

    def __init__(self, code: int, message: str) -> None:
        self.code = code
        super().__init__(message)


def closed_functions(table_functions: Iterator[str]) -> frozenset[str]:
    """Return the functions nobody may call, in lower case: which reach files or networks.

    Args:
        table_functions: All of the engine; one that an upgrade adds stays closed until somebody looks at it.
    """
    return _CLOSED_FUNCTIONS | ({name.lower() for name in table_functions} - _OPEN_TABLE_FUNCTIONS)


def is_transport(name: str) -> bool:
    """Return whether a URL parameter speaks to the HTTP layer rather than naming a setting."""
    return _TRANSPORT.fullmatch(name) is not None and name != "session_timezone"


def check_setting(name: str) -> None:
    """Raise `QueryRefusedError` unless a reader may change the setting."""
    if not _SETTINGS.fullmatch(name):
        raise QueryRefusedError(READONLY, f"Setting {name} may not be changed here. (READONLY)")


def screen(canonical: str, closed: frozenset[str]) -> dict[str, str]:
    """Check one statement, as the engine itself wrote it out again.

    Returns:
        The settings its SETTINGS clauses ask for, as literals.

    Raises:
        QueryRefusedError: It does not only read, or reaches outside the store.
    """
    parts = [match.group() for match in _TOKEN.finditer(canonical)]
    first = next((part for part in parts if part != "("), "").upper()
    if first not in _READING:
        allowed = ", ".join(_READING)
        raise QueryRefusedError(
            READONLY, f"{first or 'Nothing'} is not allowed here, only {allowed}. (READONLY)"
        )
    for before, part in pairwise(parts):
        if before == "INTO" and part == "OUTFILE":
            raise QueryRefusedError(READONLY, "INTO OUTFILE is not allowed here. (READONLY)")
        if part == "(" and before.strip('`"').lower() in closed:
            raise QueryRefusedError(READONLY, f"Function {before} is not allowed here. (READONLY)")
    return _settings_in(parts)


def format_in(canonical: str) -> str | None:
    """Return the format a statement asks for at its end, if any."""
    parts = [match.group() for match in _TOKEN.finditer(canonical)]
    depth_zero = [index for index, part in enumerate(parts) if part == "FORMAT"]
    if depth_zero and depth_zero[-1] + 1 < len(parts) and ")" not in parts[depth_zero[-1] :]:
        return parts[depth_zero[-1] + 1]
    return None


def _settings_in(parts: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for index, part in enumerate(parts):
        if part == "SETTINGS":
            found.update(_settings_from(parts, index + 1))
    for name in found:
        check_setting(name)
    return found


def _settings_from(parts: list[str], index: int) -> Iterator[tuple[str, str]]:
    """Yield `name = literal` pairs, up to what no longer is one."""
    while index + 2 < len(parts) and parts[index + 1] == "=":
        end = index + 2
        while end < len(parts) and parts[end] not in (",", ")", "FORMAT", "INTO"):
            end += 1
        yield parts[index], "".join(parts[index + 2 : end])
        index = end + 1 if end < len(parts) and parts[end] == "," else len(parts)
