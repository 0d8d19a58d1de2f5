"""Runs `ray start` with Redis' password from RAY_REDIS_PASSWORD: `start_head.py ARGUMENTS...`.

`ray start` takes the password only as an argument (Ray 2.60.0), and every user of the machine can read the arguments of
a process. Here it becomes one when the process runs already.
"""

from __future__ import annotations

import os
import sys


def main(*arguments: str) -> None:
    """Becomes `ray start`."""
    from ray.scripts.scripts import cli

    cli.main(args=["start", *arguments, f"--redis-password={os.environ['RAY_REDIS_PASSWORD']}"], prog_name="ray")


if __name__ == "__main__":
    main(*sys.argv[1:])
