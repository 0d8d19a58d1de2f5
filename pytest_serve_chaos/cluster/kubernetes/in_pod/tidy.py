"""Restores what an earlier run may have left in this container: it resumes processes, and removes health flags.

Prints JSON: how many processes were stopped, and how many flags there were.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal

from pytest_serve_chaos.cluster.kubernetes.in_pod.container import is_own


def main() -> None:
    """Does both; a process that has gone meanwhile needs nothing."""
    print(json.dumps({"stopped": continue_all(), "flags": clear_flags()}), flush=True)


def continue_all() -> int:
    """Sends SIGCONT to every process of this container that is stopped; returns how many there were."""
    stopped = 0
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            with open(f"/proc/{name}/stat", "rb") as file:
                state = file.read().rpartition(b")")[2].split()[0]
            if state in (b"T", b"t") and is_own(name):
                os.kill(int(name), signal.SIGCONT)
                stopped += 1
    return stopped


def clear_flags() -> int:
    """Takes all health flags away, and what says until when they count; returns how many there were."""
    directory = os.environ.get("SERVE_CHAOS_FLAGS", "")
    flags = os.listdir(directory) if directory and os.path.isdir(directory) else []
    for flag in flags:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(directory, flag))
    return len([flag for flag in flags if not flag.endswith(".until")])


if __name__ == "__main__":
    main()
