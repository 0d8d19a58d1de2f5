"""Ends a program that has come into another pod than it was meant for: one may have got the name of another meanwhile.

It stands before each program, which names the pod by its UID (`bound`). A container shows whose it is by what the
kubelet mounts into it from the directory of its pod: ``/etc/hosts``, and the file for its last words.
"""

from __future__ import annotations

import re
import sys

ANOTHER_POD = 5
NOT_SHOWN = 6
MOUNTS = "/proc/self/mountinfo"
OF_A_POD = re.compile("/pods/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})/")


def only_in(uid: str, *, looks: bool) -> None:
    """Ends the program in another pod; where a container does not show whose it is, it goes on if it only looks."""
    if not uid:
        return
    with open(MOUNTS) as file:
        shown = {found[1] for line in file if (found := OF_A_POD.search(line.split(" ")[3]))}
    if shown and uid not in shown:
        sys.exit(ANOTHER_POD)
    if not shown and not looks:
        sys.exit(NOT_SHOWN)
