"""The command line on a terminal of a given width."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from collections.abc import Mapping

COLOUR = re.compile(r"\x1b\[[0-9;]*m")
MAIN = "from otel_cost.cli.main import main; main()"


def on_terminal(columns: int, *arguments: str, variables: Mapping[str, str] | None = None) -> str:
    """Run `otel-cost` on a pseudo terminal and return what it shows, without colours."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", MAIN, *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm", **(variables or {}), "COLUMNS": str(columns)},
    )
    os.close(theirs)
    shown = b""
    try:
        while part := os.read(ours, 65536):
            shown += part
    except OSError:  # what Linux says at the end of a pseudo terminal
        pass
    finally:
        os.close(ours)
        process.wait(60)
    return COLOUR.sub("", shown.decode()).replace("\r\n", "\n")
