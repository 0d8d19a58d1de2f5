"""Kills one actor as `ray.kill` does. Arguments: its actor id; ``no_restart`` or ``restart``."""

from __future__ import annotations

import logging
import sys

import ray
from ray.util.state import get_actor


def main(actor_id: str, restart: str) -> None:
    """Finds the actor's name by its id, since `ray.kill` wants a handle, and a handle wants a name."""
    ray.init(address="auto", log_to_driver=False, logging_level=logging.ERROR)
    actor = get_actor(actor_id)
    if actor is None or actor.state == "DEAD" or not actor.name:
        sys.exit(f"no actor {actor_id} that is alive and has a name: {actor}")
    handle = ray.get_actor(actor.name, namespace=actor.ray_namespace)
    if handle._actor_id.hex() != actor_id:
        sys.exit(f"the name {actor.name} belongs to another actor now: {handle._actor_id.hex()}")
    ray.kill(handle, no_restart=restart == "no_restart")


if __name__ == "__main__":
    main(*sys.argv[1:])
