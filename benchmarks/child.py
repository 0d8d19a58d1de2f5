"""What a process that a benchmark starts used, as the kernel counts it."""

from __future__ import annotations

import os
import resource
import subprocess


def used_by(process: subprocess.Popen[bytes]) -> resource.struct_rusage:
    """Waits until a child has ended, and returns what it used. Its `returncode` is known then."""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return usage
