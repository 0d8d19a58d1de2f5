"""Cleans up after a supervisor, however that ended: `python -m ...janitor RUN DIRECTORY`.

Its standard input is a pipe that only the supervisor holds open. When that closes, it ends every process that carries
the run's mark and removes the run's directory.
"""

from __future__ import annotations

import shutil
import signal
import sys
from pathlib import Path

from pytest_serve_chaos.cluster.local import processes

_ROUNDS = 3
"""How often it begins anew where something was written while the directory was removed."""


def main(run: str, directory: str) -> None:
    """Waits for the end of the supervisor and cleans up."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    while sys.stdin.buffer.read(4096):
        pass
    for _ in range(_ROUNDS):
        processes.end_marked(run)
        shutil.rmtree(Path(directory), ignore_errors=True)
        if not Path(directory).exists():
            return


if __name__ == "__main__":
    main(*sys.argv[1:])
