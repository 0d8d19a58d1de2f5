"""Sends a signal to one process of this container. Arguments: PID, its start time in clock ticks, the signal's number.

Ends with status 3 where the process is gone, or its PID belongs to another one now.
"""

from __future__ import annotations

import os
import signal
import sys

from pytest_serve_chaos.cluster.kubernetes.in_pod.container import is_own

GONE = 3


def main(pid: str, started: str, number: str) -> None:
    """The handle holds the process: if its start time is right then, it cannot become another one any more."""
    try:
        handle = os.pidfd_open(int(pid))
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        if fields[0] in (b"Z", b"X") or fields[19].decode() != started:
            sys.exit(GONE)
        if not is_own(pid):
            sys.exit(f"process {pid} belongs to another container")
        signal.pidfd_send_signal(handle, int(number))
    except (ProcessLookupError, FileNotFoundError):
        sys.exit(GONE)


if __name__ == "__main__":
    main(*sys.argv[1:])
