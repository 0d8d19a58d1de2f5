"""Stops every process of this container, or resumes them. Argument: ``stop`` or ``go``.

Left alone are PID 1, which cannot be stopped from inside, and what was started from outside: probes, and this program.
Prints JSON: how many processes there are, and the PIDs of those that are not as they should be.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time

from pytest_serve_chaos.cluster.kubernetes.in_pod.container import is_own

WITHIN = 5.0


def main(what: str) -> None:
    """Looks again until none is left over, since a process may start another one while it is stopped."""
    number = signal.SIGSTOP if what == "stop" else signal.SIGCONT
    end = time.monotonic() + WITHIN
    while True:
        states = descendants_of_the_first()
        left = [pid for pid, state in states.items() if (state in "Tt") != (what == "stop")]
        if not left or time.monotonic() > end:
            break
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        time.sleep(0.02)
    print(json.dumps({"processes": len(states), "left": left}), flush=True)


def descendants_of_the_first() -> dict[int, str]:
    """PID -> state of all processes of this container that PID 1 or one of its children started."""
    parents: dict[int, tuple[int, str]] = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
            if fields[0] not in (b"Z", b"X"):
                parents[int(name)] = int(fields[1]), fields[0].decode()
    found: dict[int, str] = {}
    ring = {1}
    while ring:
        ring = {pid for pid, (parent, _) in parents.items() if parent in ring and pid not in found}
        found |= {pid: parents[pid][1] for pid in ring}
    return {pid: state for pid, state in found.items() if is_own(pid)}


if __name__ == "__main__":
    main(*sys.argv[1:])
