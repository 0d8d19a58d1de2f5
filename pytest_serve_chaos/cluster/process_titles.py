"""What a process is in a Serve cluster, by its command line: Ray's actors set theirs to ``ray::Class``."""

from __future__ import annotations

import re

from pytest_serve_chaos.model import Role

# While a method of an actor runs, `.method` stands behind the class.
_REPLICA = re.compile(r"ray::ServeReplica:([^:]+):([^. ]+)")
_PREFIXES: tuple[tuple[str, Role], ...] = (
    ("ray::ServeController", "controller"),
    ("ray::ProxyActor", "proxy"),
)
_PROGRAMS: dict[str, Role] = {"gcs_server": "gcs", "raylet": "raylet"}

PATTERN = r"ray::(ServeReplica:|ServeController|ProxyActor)|(\S*/)?(gcs_server|raylet)( |$)"
"""Matches the command lines for which `part_of` has an answer."""


def part_of(command: str) -> tuple[Role, str | None] | None:
    """The role that a process has, and for a replica its deployment (``app#Deployment``); None for all others."""
    replica = _REPLICA.match(command)
    if replica:
        return "replica", f"{replica[1]}#{replica[2]}"
    for prefix, role in _PREFIXES:
        if command.startswith(prefix):
            return role, None
    program = _PROGRAMS.get(command.partition(" ")[0].rpartition("/")[2])
    return None if program is None else (program, None)
