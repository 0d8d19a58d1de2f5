"""Runs a program that dies with its parent: `python -I -S child.py PARENT PROGRAM ARGUMENTS...`.

It asks the kernel for SIGKILL when the parent ends (PR_SET_PDEATHSIG, which survives exec), then becomes the program.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
NICENESS = 10  # what is measured must not take the processor from what measures; Ray adds 15 for its workers


def main() -> None:
    """Sets the death signal and becomes the program."""
    parent, program, arguments = int(sys.argv[1]), sys.argv[2], sys.argv[2:]
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        sys.exit("prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent:  # it ended before the signal was asked for
        sys.exit("the parent is gone")
    os.nice(NICENESS)
    os.execv(program, arguments)


if __name__ == "__main__":
    main()
