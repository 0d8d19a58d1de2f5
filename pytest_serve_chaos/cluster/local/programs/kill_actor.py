"""Does what `ray.kill` does, in a process of its own: `python -m ...kill_actor ACTOR_NAME restart|no_restart`.

It joins the cluster of RAY_ADDRESS as a driver, prints when it kills (monotonic seconds) and leaves.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time


def main(name: str, mode: str) -> None:
    """Kills the actor of that name in Serve's namespace."""
    os.nice(10)  # importing Ray takes a processor for a second, which the load generator needs
    import ray

    ray.init(namespace="serve", logging_level=logging.ERROR, log_to_driver=False)
    actor = ray.get_actor(name, namespace="serve")
    asked = time.monotonic()
    ray.kill(actor, no_restart=mode == "no_restart")
    print(json.dumps({"asked": asked, "actor": actor._actor_id.hex()}), flush=True)
    ray.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
