"""What the processes of a local cluster use, from /proc."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from pytest_serve_chaos.cluster.haproxy import Generation
from pytest_serve_chaos.cluster.kubernetes.in_pod.watch_usage import used
from pytest_serve_chaos.cluster.watched import watched
from pytest_serve_chaos.model import Component, Identity
from pytest_serve_chaos.usage import ProcessUsage


class ProcUsage:
    """Has the capability `ShowsUsage`.

    Args:
        haproxies: Returns the HAProxy processes that were seen last.
        proc: Where the kernel's files are.
    """

    def __init__(self, haproxies: Callable[[], Sequence[Generation]], proc: Path = Path("/proc")) -> None:
        self._haproxies = haproxies
        self._proc = proc

    def usage(self, components: Sequence[Component]) -> tuple[ProcessUsage, ...]:
        """What these use now, those of HAProxy too; who has ended is left out."""
        return tuple(filter(None, (self._read(*one) for one in watched(components, self._haproxies()))))

    def _read(self, place: str, identity: Identity, pid: int) -> ProcessUsage | None:
        try:
            _, started, memory, processor, descriptors, threads, sockets = used(pid, str(self._proc))
        except (OSError, IndexError):  # it has ended
            return None
        if identity.parts[-1] != str(started):  # the PID is another process's by now
            return None
        return ProcessUsage(place, identity, pid, memory, processor, descriptors, threads, sockets)
