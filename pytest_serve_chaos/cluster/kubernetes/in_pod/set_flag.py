"""Sets the flag that a replica's health check reads, or takes it away. Arguments: the replica's PID; a mode, or ``""``.

Ends with status 4 where the container has no directory for flags.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

NO_DIRECTORY = 4


def main(pid: str, mode: str) -> None:
    """Writes the file whole, so that a check never reads half a flag."""
    directory = os.environ.get("SERVE_CHAOS_FLAGS")
    if not directory:
        sys.exit(NO_DIRECTORY)
    flag = Path(directory) / pid
    if not mode:
        flag.unlink(missing_ok=True)
        return
    flag.parent.mkdir(parents=True, exist_ok=True)
    unfinished = flag.with_suffix(".new")
    unfinished.write_text(mode)
    unfinished.replace(flag)


if __name__ == "__main__":
    main(*sys.argv[1:])
