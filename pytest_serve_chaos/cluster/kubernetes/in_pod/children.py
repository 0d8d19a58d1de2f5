"""Prints processes of this container, as JSON.

Each is [PID, start in clock ticks, parent's PID, state, name, command line, age in milliseconds].

Arguments: ``below``, a PID and its start time: all processes below that one; ends with status 3 where it is gone.
Or ``states`` and ``PID:START`` for each process: those of them that are there.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time

from pytest_serve_chaos.cluster.kubernetes.in_pod.container import is_own

GONE = 3
LONGEST = 2000

Row = tuple[int, int, int, str, str, str, int]


def main(what: str, *arguments: str) -> None:
    """Looks once."""
    rows = look()
    if what == "states":
        wanted = {tuple(map(int, argument.split(":"))) for argument in arguments}
        print(json.dumps([row for row in rows.values() if row[:2] in wanted]), flush=True)
        return
    first, started = map(int, arguments)
    if first not in rows or rows[first][1] != started:
        sys.exit(GONE)
    found: list[Row] = []
    ring = {first}
    while ring:
        ring = {pid for pid, row in rows.items() if row[2] in ring}
        found += [rows[pid] for pid in sorted(ring)]
    print(json.dumps(found), flush=True)


def look() -> dict[int, Row]:
    """All processes that are not zombies, by PID."""
    rows: dict[int, Row] = {}
    now, ticks = time.clock_gettime(time.CLOCK_BOOTTIME), os.sysconf("SC_CLK_TCK")
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            with open(f"/proc/{name}/stat", "rb") as file:
                before, _, after = file.read().rpartition(b")")
            fields = after.split()
            with open(f"/proc/{name}/cmdline", "rb") as file:
                command = file.read().replace(b"\0", b" ").decode(errors="replace").strip()
            state = fields[0].decode()
            if state not in "ZX" and is_own(name):
                comm = before.partition(b"(")[2].decode(errors="replace")
                started, age = int(fields[19]), round(1000 * (now - int(fields[19]) / ticks))
                rows[int(name)] = (int(name), started, int(fields[1]), state, comm, command[:LONGEST], age)
    return rows


if __name__ == "__main__":
    main(*sys.argv[1:])
