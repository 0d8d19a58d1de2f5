"""What a process is in a Serve cluster, by its command line: Ray's actors set theirs to ``ray::Class``."""

from __future__ import annotations

import re
from typing import Literal, TypeAlias

from pytest_serve_chaos.model import Role

Part: TypeAlias = Role | Literal["manager", "haproxy"]
"""A role, or one of the two processes that are a proxy together: HAProxy, and Serve's manager of it."""

# While a method of an actor runs, `.method` stands behind the class, and while it is made its name before it.
_REPLICA = re.compile(r"ray::ServeReplica:([^:]+):([^. ]+)")
_MANAGER = re.compile(r"ray::(SERVE_PROXY_ACTOR-[^:]*:)?HAProxyManager")
_HAPROXY = re.compile(r"(\S*/)?haproxy (.* )?-f (\S*)/haproxy\.cfg( |$)")
_REPLACES = re.compile(r" -(?:sf|st)((?: \d+)+)")
_PREFIXES: tuple[tuple[str, Role], ...] = (
    ("ray::ServeController", "controller"),
    ("ray::ProxyActor", "proxy"),
)
_PROGRAMS: dict[str, Role] = {"gcs_server": "gcs", "raylet": "raylet"}

PATTERN = (
    r"ray::(ServeReplica:|ServeController|ProxyActor|(SERVE_PROXY_ACTOR-[^:]*:)?HAProxyManager)"
    r"|(\S*/)?((gcs_server|raylet)( |$)|haproxy .*/haproxy\.cfg)"
)
"""Matches the command lines for which `part_of` has an answer."""


def part_of(command: str) -> tuple[Part, str | None] | None:
    """What a process is, and for a replica its deployment (``app#Deployment``); None for all others."""
    replica = _REPLICA.match(command)
    if replica:
        return "replica", f"{replica[1]}#{replica[2]}"
    if _MANAGER.match(command):
        return "manager", None
    for prefix, role in _PREFIXES:
        if command.startswith(prefix):
            return role, None
    if _HAPROXY.match(command):
        return "haproxy", None
    program = _PROGRAMS.get(command.partition(" ")[0].rpartition("/")[2])
    return None if program is None else (program, None)


def haproxy_directory(command: str) -> str:
    """Where a HAProxy has its config and its admin socket; "" where the command line is not HAProxy's."""
    found = _HAPROXY.match(command)
    return "" if found is None else found[3]


def replaced_by(command: str) -> frozenset[int]:
    """The PIDs from which a HAProxy takes over: those of the generations before it."""
    found = _REPLACES.search(command)
    return frozenset() if found is None else frozenset(map(int, found[1].split()))
