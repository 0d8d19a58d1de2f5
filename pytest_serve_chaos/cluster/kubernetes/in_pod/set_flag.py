"""Sets the flag that a replica's health check reads, or takes it away.

Arguments: the replica's PID; a mode, for how many seconds it counts, on the clock that goes on while the machine
sleeps (CLOCK_BOOTTIME), and the start time of the replica in clock ticks; or ``""``. Ends with status 4 where the
container has no directory for flags, and with 3 where the replica is gone, or its PID belongs to another process.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

NO_DIRECTORY = 4
GONE = 3


def main(pid: str, mode: str, seconds: str = "", started: str = "") -> None:
    """Writes each file whole, so that a check never reads half a flag; first the one that says until when it counts."""
    directory = os.environ.get("SERVE_CHAOS_FLAGS")
    if not directory:
        sys.exit(NO_DIRECTORY)
    flag = Path(directory) / pid
    until = flag.with_suffix(".until")
    if not mode:
        flag.unlink(missing_ok=True)
        until.unlink(missing_ok=True)
        return
    if started and started_at(pid) != started:
        sys.exit(GONE)
    flag.parent.mkdir(parents=True, exist_ok=True)
    write(until, f"{time.clock_gettime(time.CLOCK_BOOTTIME) + float(seconds):.1f}")
    write(flag, mode)


def started_at(pid: str) -> str:
    """When a process was started; "" where it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[19].decode()
    except (OSError, IndexError):
        return ""


def write(file: Path, text: str) -> None:
    """Writes a file whole."""
    unfinished = file.with_name(f"{file.name}.new")
    unfinished.write_text(text)
    unfinished.replace(file)


if __name__ == "__main__":
    main(*sys.argv[1:])
