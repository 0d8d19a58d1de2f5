"""What a run leaves on this machine if its supervisor and its janitor are both killed, and who removes it."""

from __future__ import annotations

from collections.abc import Iterator

from pytest_serve_chaos import scratch
from pytest_serve_chaos.cluster.base import Progress
from pytest_serve_chaos.cluster.local import processes

OWNER = "local"
"""What the directory of a local cluster says of itself; its mark is that of the processes."""


def sweep(progress: Progress) -> Iterator[str]:
    """Ends the processes of clusters that nobody holds any more, and removes their directories.

    Args:
        progress: Prints a line for people.

    Returns:
        What could not be removed, in words.
    """
    for left in scratch.left_by(OWNER):
        progress(f"undo: the local cluster of a run that ended by force: {left.path}")
        remain = processes.end_marked(left.mark)
        if remain:
            pids = ", ".join(str(process.pid) for process in remain)
            yield f"processes of the local cluster in {left.path} could not be ended: PID {pids}"
        elif not scratch.remove(left.path):
            yield f"{left.path} could not be removed"
