"""Runs a program that dies with its parent: `child.py PARENT NICENESS PROGRAM ARGUMENTS...`.

It asks the kernel for SIGKILL when the parent ends (PR_SET_PDEATHSIG, which survives exec), then becomes the program.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def _be_nice(niceness: int) -> None:
    """Leaves the processor to the session of pytest: what is measured must not take it from what measures."""
    os.nice(niceness)
    try:
        # Where the kernel schedules by session (sched(7), "The autogroup feature"), only this counts between sessions.
        with open("/proc/self/autogroup", "w") as file:
            file.write(str(niceness))
    except OSError:  # a kernel without it
        pass


def main() -> None:
    """Sets the death signal and becomes the program."""
    parent, niceness, program, arguments = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[3:]
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        sys.exit("prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent:  # it ended before the signal was asked for
        sys.exit("the parent is gone")
    _be_nice(niceness)
    os.execv(program, arguments)


if __name__ == "__main__":
    main()
