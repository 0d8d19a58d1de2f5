"""What the processes of a fake cluster use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pytest_serve_chaos import clock
from pytest_serve_chaos.model import Component
from pytest_serve_chaos.testing.world import World
from pytest_serve_chaos.usage import ProcessUsage

_MIB = 2**20


@dataclass(frozen=True)
class FakeUsage:
    """Implements `ShowsUsage`.

    Attributes:
        world: What lives in the cluster.
    """

    world: World

    def usage(self, components: Sequence[Component]) -> Sequence[ProcessUsage]:
        """Nothing of anybody where the behaviour says so; replicas that leak use more from the first fault on."""
        with self.world.lock:
            struck, grows = self.world.struck, self.world.behaviour.grows
        if grows == "unseen":
            return ()
        since = clock.now() - struck if struck is not None and grows == "after a fault" else 0.0
        return tuple(_of(component, since) for component in components if component.role != "redis")


def _of(component: Component, leaking: float) -> ProcessUsage:
    """What one process uses; a replica that has leaked for so many seconds has more of it."""
    leaked = leaking if component.role == "replica" else 0.0
    return ProcessUsage(
        place=component.name,
        identity=component.identity,
        pid=component.pid or 0,
        memory=int((50 + 20 * leaked) * _MIB),
        processor=1.0,
        descriptors=20 + int(50 * leaked),
        threads=8,
        connections=4,
    )
