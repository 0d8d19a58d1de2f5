"""What the processes of a local cluster use, from /proc."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from pytest_serve_chaos.cluster.haproxy import Generation
from pytest_serve_chaos.model import Component, Identity, Role
from pytest_serve_chaos.usage import ProcessUsage

_WATCHED: tuple[Role, ...] = ("gcs", "raylet", "controller", "proxy", "replica")
"""The first process of a node only waits for the others, and Redis is no part of Ray."""


class ProcUsage:
    """Has the capability `ShowsUsage`.

    Args:
        haproxies: Returns the HAProxy processes that were seen last.
        proc: Where the kernel's files are.
    """

    def __init__(self, haproxies: Callable[[], Sequence[Generation]], proc: Path = Path("/proc")) -> None:
        self._haproxies = haproxies
        self._proc = proc
        self._tick = os.sysconf("SC_CLK_TCK")
        self._page = os.sysconf("SC_PAGE_SIZE")

    def usage(self, components: Sequence[Component]) -> tuple[ProcessUsage, ...]:
        """What these use now, those of HAProxy too; who has ended is left out."""
        return tuple(filter(None, (self._read(*one) for one in self._processes(components))))

    def _processes(self, components: Sequence[Component]) -> Iterator[tuple[str, Identity, int]]:
        for component in components:
            if component.role in _WATCHED and component.pid is not None:
                yield component.name, component.identity, component.pid
        for one in self._haproxies():
            yield f"haproxy on {one.node}", one.process, one.pid

    def _read(self, place: str, identity: Identity, pid: int) -> ProcessUsage | None:
        directory = self._proc / str(pid)
        try:
            fields = (directory / "stat").read_bytes().rpartition(b")")[2].split()
            resident, shared = (directory / "statm").read_bytes().split()[1:3]
            descriptors = [self._target(directory / "fd" / name) for name in os.listdir(directory / "fd")]
        except (OSError, IndexError):  # it has ended
            return None
        if identity.parts[-1] != fields[19].decode():  # the PID is another process's by now
            return None
        return ProcessUsage(
            place=place,
            identity=identity,
            pid=pid,
            memory=max(0, int(resident) - int(shared)) * self._page,
            processor=(int(fields[11]) + int(fields[12])) / self._tick,
            descriptors=len(descriptors),
            threads=int(fields[17]),
            connections=sum(target.startswith("socket:") for target in descriptors),
        )

    def _target(self, descriptor: Path) -> str:
        try:
            return os.readlink(descriptor)
        except OSError:  # closed meanwhile
            return ""
