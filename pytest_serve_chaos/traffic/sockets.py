"""How many requests may be in flight at once: each on a connection of its own takes a socket, which is an open file."""

from __future__ import annotations

import contextlib
import math
import resource
import sys
from collections.abc import Iterator
from typing import NamedTuple

from pytest_serve_chaos.schedule import Schedule

RESERVED_FILES = 256
"""File descriptors that traffic leaves to the rest of the process: pipes, logs, the programs that heal the cluster."""

TO_END = 1.0
"""Seconds beyond its timeout in which a request has ended, if the generator is not hopelessly late."""

_MOST_FILES = 65536
"""No more are asked for: a machine has fewer ports than that for connections to one address."""


class InFlight(NamedTuple):
    """How many requests are in flight while nothing is answered, and how many of them this process may have."""

    needed: int
    possible: int


def in_flight_possible(schedule: Schedule, timeout: float) -> InFlight:
    """Whether the limit on open files lets an app hang without keeping requests from being sent.

    `possible` counts with the hard limit, up to which the generator raises the soft one where it has to.

    Args:
        schedule: Of the requests. The highest rate counts: that is when an app may hang.
        timeout: Seconds until a request that is not answered ends.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # The timeout may be infinite.
    needed = math.ceil(min(schedule.at_most(min(timeout, sys.maxsize) + TO_END), sys.maxsize))
    return InFlight(needed, max(1, _bounded(hard) - RESERVED_FILES))


def open_files_for(requests: int) -> int:
    """The limit on open files with which so many requests can be in flight."""
    return requests + RESERVED_FILES


@contextlib.contextmanager
def sockets_for(requests: int) -> Iterator[int]:
    """Gives how many requests may be in flight, after raising the soft limit on open files if they are not enough.

    The limit is that of the user's process, and programs that start meanwhile inherit it. So it is raised only where a
    total hang would otherwise keep requests from being sent, which looks like a fault of the generator and hides the
    outage; and it is restored at the end.

    Args:
        requests: How many may have to be in flight.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = min(open_files_for(requests), _bounded(hard))
    if wanted <= _bounded(soft):
        yield max(1, _bounded(soft) - RESERVED_FILES)
        return
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    try:
        yield max(1, wanted - RESERVED_FILES)
    finally:
        # If somebody has changed it meanwhile, other traffic for example, that change stays.
        if resource.getrlimit(resource.RLIMIT_NOFILE) == (wanted, hard):
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _bounded(limit: int) -> int:
    return _MOST_FILES if limit == resource.RLIM_INFINITY else min(limit, _MOST_FILES)
