"""Prints which processes of this container match, again whenever one of them comes, goes, is stopped or goes on.

Arguments: an expression for command lines, seconds between two looks. A line is JSON: a list of [PID, start time in
clock ticks, state, command line, parent's PID]; there is one every few seconds in any case. The reader writes a word to
standard input now and then: a container's runtime does not tell a program that nobody reads any more.
"""

from __future__ import annotations

import json
import os
import re
import select
import sys
import time

from pytest_serve_chaos.cluster.kubernetes.in_pod.container import is_own

HEARTBEAT = 5.0
ALONE = "60"
STDIN = 0
LONGEST = 400
"""Characters of a command line; that of HAProxy begins with two long paths, and ends with what it replaces."""

Row = tuple[int, int, str, str, int]


def main(expression: str, every: str, alone: str = ALONE) -> None:
    """Looks until standard input ends, or nobody has said a word for so many seconds."""
    wanted = re.compile(expression)
    handles: dict[tuple[int, int], int] = {}
    ends = select.poll()
    commands: dict[tuple[int, int], str] = {}
    before: list[Row] = []
    said, said_at = "", 0.0
    ends.register(STDIN, select.POLLIN)
    heard = time.monotonic()
    while time.monotonic() - heard < float(alone):
        rows = look(wanted, commands)
        if {row[:2] for row in before} - {row[:2] for row in rows}:
            # One process may follow another at once: who was read before the one came, and the other after it went, has
            # seen neither.
            rows = look(wanted, commands)
        before = rows
        text = json.dumps(rows)
        if text != said or time.monotonic() - said_at >= HEARTBEAT:
            print(text, flush=True)
            said, said_at = text, time.monotonic()
        pause = 0.0 if hold(rows, handles, ends) else float(every)
        if STDIN in [ready for ready, _ in ends.poll(pause * 1000)]:
            if not os.read(STDIN, 4096):
                return
            heard = time.monotonic()


def look(wanted: re.Pattern[str], commands: dict[tuple[int, int], str]) -> list[Row]:
    """The processes that match; what a command line was when it first matched stays, for a title may change.

    One that still has its parent's command line is left out: a raylet forks before it starts a worker.
    """
    rows: list[Row] = []
    for name in sorted(filter(str.isdigit, os.listdir("/proc")), key=int):
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
            key = int(name), int(fields[19])
            if key not in commands:
                command = command_line(name)
                inherited = command == command_line(fields[1].decode())
                if not wanted.match(command) or inherited or not is_own(name):
                    continue
                commands[key] = command
        except OSError:
            continue
        state = fields[0].decode()
        if state not in "ZX":
            rows.append((*key, "T" if state in "Tt" else "R", commands[key][:LONGEST], int(fields[1])))
    return rows


def command_line(pid: str) -> str:
    """A process' command line, or the title that it gave itself."""
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        return file.read().replace(b"\0", b" ").decode(errors="replace").strip()


def hold(rows: list[Row], handles: dict[tuple[int, int], int], ends: select.poll) -> bool:
    """Keeps a handle of each process, so that the next wait is over at once when it ends.

    Returns:
        Whether one has gone since it was looked at, so that there is nothing to wait for.
    """
    gone = False
    there = {(pid, started) for pid, started, *_ in rows}
    for key in set(handles) - there:
        ends.unregister(handles[key])
        os.close(handles.pop(key))
    for key in there - set(handles):
        try:
            handles[key] = os.pidfd_open(key[0])
        except ProcessLookupError:
            gone = True
            continue
        except (OSError, AttributeError):  # this kernel or Python has no such thing
            continue
        ends.register(handles[key], select.POLLIN)
    return gone


if __name__ == "__main__":
    main(*sys.argv[1:])
