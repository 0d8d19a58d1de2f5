"""Kills one actor as `ray.kill` does. Arguments: its id, its name, its namespace; ``no_restart`` or ``restart``.

Prints when it killed: the monotonic clock then and when the program began, and the machine's boot id, which says whose
clock that is.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from pathlib import Path

BEGAN = time.monotonic()  # before the import of Ray, which takes its time

import ray  # noqa: E402


def main(actor_id: str, name: str, namespace: str, restart: str) -> None:
    """Takes the name for a handle, which `ray.kill` wants, and the id to be sure that it is the very same actor."""
    ray.init(address="auto", log_to_driver=False, logging_level=logging.ERROR)
    actor = ray.get_actor(name, namespace=namespace)
    if actor._actor_id.hex() != actor_id:
        sys.exit(f"{name} is another actor now: {actor._actor_id.hex()}")
    asked = time.monotonic()
    ray.kill(actor, no_restart=restart == "no_restart")
    ray.shutdown()
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    print(json.dumps({"began": BEGAN, "asked": asked, "boot": boot}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
