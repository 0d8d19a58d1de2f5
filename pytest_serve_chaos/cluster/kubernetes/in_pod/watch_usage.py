"""Prints what processes of this container use, now and then.

Arguments: an expression for command lines, seconds between two looks. A line is JSON: a list of [PID, start time in
clock ticks, bytes of memory that it shares with nobody, seconds of processor time, file descriptors, threads, sockets].
The reader writes a word to standard input now and then: a container's runtime does not tell a program that nobody reads
any more.
"""

from __future__ import annotations

import json
import os
import re
import select
import sys
import time

from pytest_serve_chaos.cluster.kubernetes.in_pod.container import is_own

ALONE = "60"
STDIN = 0
TICK = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")

Row = tuple[int, int, int, float, int, int, int]


def main(expression: str, every: str, alone: str = ALONE) -> None:
    """Looks until standard input ends, or nobody has said a word for so many seconds."""
    wanted = re.compile(expression)
    heard = time.monotonic()
    while time.monotonic() - heard < float(alone):
        print(json.dumps(look(wanted)), flush=True)
        if select.select([STDIN], [], [], float(every))[0]:
            if not os.read(STDIN, 4096):
                return
            heard = time.monotonic()


def look(wanted: re.Pattern[str]) -> list[Row]:
    """What the processes use that match; who has ended, or may not be looked at, is left out."""
    rows = []
    for name in sorted(filter(str.isdigit, os.listdir("/proc")), key=int):
        try:
            with open(f"/proc/{name}/cmdline", "rb") as file:
                command = file.read().replace(b"\0", b" ").decode(errors="replace").strip()
            if wanted.match(command) and is_own(name):
                rows.append(used(int(name)))
        except (OSError, IndexError):
            continue
    return rows


def used(pid: int, proc: str = "/proc") -> Row:
    """What a process uses.

    Raises:
        OSError, IndexError: It has ended, or may not be looked at.
    """
    directory = f"{proc}/{pid}"
    with open(f"{directory}/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
    with open(f"{directory}/statm", "rb") as file:
        resident, shared = file.read().split()[1:3]
    targets = [target(f"{directory}/fd/{name}") for name in os.listdir(f"{directory}/fd")]
    memory = max(0, int(resident) - int(shared)) * PAGE
    processor = (int(fields[11]) + int(fields[12])) / TICK
    sockets = sum(one.startswith("socket:") for one in targets)
    return pid, int(fields[19]), memory, processor, len(targets), int(fields[17]), sockets


def target(descriptor: str) -> str:
    """What a file descriptor leads to; "" if it was closed meanwhile."""
    try:
        return os.readlink(descriptor)
    except OSError:
        return ""


if __name__ == "__main__":
    main(*sys.argv[1:])
