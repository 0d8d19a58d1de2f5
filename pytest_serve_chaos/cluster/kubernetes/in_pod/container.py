"""Which processes belong to this container: it may share its PID namespace with the pod, or with the whole machine."""

from __future__ import annotations

import os
import re

PROC = "/proc"
CONTAINER_ID = re.compile("[0-9a-f]{64}")


def is_own(pid: int | str) -> bool:
    """Whether a process is in the control group of this container; where none is known, in its PID namespace."""
    theirs, ours = control_group(pid), control_group("self")
    if theirs and ours:
        return theirs == ours
    namespace = pid_namespace("self")
    return bool(namespace) and pid_namespace(pid) == namespace


def control_group(pid: int | str) -> str:
    """That of its container, "" where it is not known: from inside of one all of its own lie below ``/``."""
    try:
        with open(f"{PROC}/{pid}/cgroup") as file:
            paths = [line.rstrip("\n").split(":", 2)[2] for line in file]
    except (OSError, IndexError):
        return ""
    return max(map(of_container, paths), key=len, default="")


def of_container(path: str) -> str:
    """The part of a path that names a container, and not a group in it."""
    parts = path.split("/")
    named = [number for number, part in enumerate(parts) if CONTAINER_ID.search(part)]
    if named:
        return "/".join(parts[: named[-1] + 1])
    return path if path.startswith("/..") else "/"


def pid_namespace(pid: int | str) -> str:
    """Its PID namespace, "" where it is not known."""
    try:
        return os.readlink(f"{PROC}/{pid}/ns/pid")
    except OSError:
        return ""
