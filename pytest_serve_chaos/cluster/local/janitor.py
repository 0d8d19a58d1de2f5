"""Cleans up after a supervisor, however that ended: `python -m ...janitor RUN DIRECTORY LOCK`.

Its standard input is a pipe that only the supervisor holds open. When that closes, it ends every process that carries
the run's mark and removes the run's directory, and then the file of the lock on the ports. It holds both with the
supervisor: as long as it works, no other run takes them for left.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from pytest_serve_chaos import locks, scratch
from pytest_serve_chaos.cluster.local import processes

_ROUNDS = 3
"""How often it begins again if something was written while it removed the directory."""


def main(run: str, directory: str, lock: str) -> None:
    """Waits for the end of the supervisor and cleans up."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    while sys.stdin.buffer.read(4096):
        pass
    for _ in range(_ROUNDS):
        processes.end_marked(run)
        if scratch.remove(Path(directory)):
            break
    locks.remove(Path(lock))


if __name__ == "__main__":
    main(*sys.argv[1:])
