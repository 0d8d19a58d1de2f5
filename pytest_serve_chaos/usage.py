"""What processes use of the machine, as capabilities and histories have it."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_serve_chaos.model import Identity


@dataclass(frozen=True, slots=True)
class ProcessUsage:
    """What one process uses at a moment.

    Attributes:
        place: What it is, for people: ``controller``, ``proxy on worker-1``.
        identity: Which process it is.
        pid: Its PID.
        memory: Bytes in memory that it shares with nobody.
        processor: Seconds of processor time since it began.
        descriptors: Open file descriptors.
        threads: Threads.
        connections: Sockets among the descriptors.
    """

    place: str
    identity: Identity
    pid: int
    memory: int
    processor: float
    descriptors: int
    threads: int
    connections: int
