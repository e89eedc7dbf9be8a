"""Pass TCP connections on, and end those that a peer cut off as if it had closed them.

`clickhouse local`, which stands in for a server in these tests, ends as a whole when one of its connections
is reset; a server does not. A shard resets a connection when it wants no more of an answer.

    python -m tests.relay 127.0.0.2 127.0.0.1 9000 8123
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import partial

from tests.data import ROOT

CHUNK_BYTES = 65_536


@contextlib.contextmanager
def relayed(source: str, target: str, ports: Sequence[int]) -> Iterator[None]:
    """Hand every connection to a port of one address on to the same port of another, until the block ends."""
    command = [sys.executable, "-m", "tests.relay", source, target, *map(str, ports)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdout
        try:
            if process.stdout.readline() != b"listening\n":
                raise RuntimeError(f"nothing can listen on {source}, ports {ports}")
            yield
        finally:
            process.kill()


async def _listen(source: str, target: str, ports: Sequence[int]) -> None:
    servers = [await asyncio.start_server(partial(_pass_on, target, port), source, port) for port in ports]
    sys.stdout.write("listening\n")
    sys.stdout.flush()
    await asyncio.gather(*(server.serve_forever() for server in servers))


async def _pass_on(
    target: str, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    with contextlib.closing(writer), contextlib.suppress(OSError):
        far_reader, far_writer = await asyncio.open_connection(target, port)
        with contextlib.closing(far_writer):
            await asyncio.gather(_copy(reader, far_writer), _copy(far_reader, writer))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy until the reader's end. What nobody takes any more is read all the same: closing would reset."""
    with contextlib.suppress(OSError):
        while data := await reader.read(CHUNK_BYTES):
            with contextlib.suppress(OSError):
                writer.write(data)
                await writer.drain()
    with contextlib.suppress(OSError, RuntimeError):
        writer.write_eof()


if __name__ == "__main__":
    asyncio.run(_listen(sys.argv[1], sys.argv[2], [int(port) for port in sys.argv[3:]]))
