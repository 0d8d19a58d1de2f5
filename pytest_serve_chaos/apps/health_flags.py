"""The flag by which a test makes the health check of one replica fail, as the replica reads it."""

from __future__ import annotations

import os
import time
from pathlib import Path

FLAGS = "SERVE_CHAOS_FLAGS"


def asked_for() -> str:
    """What this process' health check should do now: ``raise``, ``hang``, or ``""``: nothing.

    The flag is a file in the directory that the environment variable SERVE_CHAOS_FLAGS names; its name is our PID. The
    file ``PID.until`` alongside it says until when it counts, in seconds of the clock that goes on while the machine
    sleeps (CLOCK_BOOTTIME): a run that ended by force does not make checks fail for ever. Without that file it counts.
    """
    directory = os.environ.get(FLAGS)
    if not directory:
        return ""
    flag = Path(directory) / str(os.getpid())
    try:
        mode = flag.read_text().strip()
    except FileNotFoundError:
        return ""
    return mode if time.clock_gettime(time.CLOCK_BOOTTIME) < _until(flag.with_suffix(".until")) else ""


def _until(file: Path) -> float:
    try:
        return float(file.read_text())
    except (FileNotFoundError, ValueError):
        return float("inf")
