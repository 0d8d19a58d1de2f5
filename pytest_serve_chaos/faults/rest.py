"""Whether a cluster is at rest after a fault: nothing comes or goes any more."""

from __future__ import annotations

from pytest_serve_chaos import clock
from pytest_serve_chaos.clock import NotYet
from pytest_serve_chaos.faults.rig import Rig
from pytest_serve_chaos.model import Identity, Topology
from pytest_serve_chaos.observe.configuration import workers_look_for_the_gcs


class Rest:
    """Looks at who is alive, and remembers when that last changed.

    While the GCS is away there is no rest before Ray's nodes have given it up, where they do so in time.

    Args:
        rig: The cluster under test, and what is recorded about it.
        asked: When the fault was asked for, monotonic seconds.
        within: Seconds from now in which there should be rest.
    """

    def __init__(self, rig: Rig, asked: float, within: float) -> None:
        self._rig = rig
        self._asked = asked
        self._changed = clock.now()
        first = rig.watcher.sample()
        self._last = _identities(first)
        patience = self._changed + within - asked
        self._looks = 0.0 if first.of("gcs") else workers_look_for_the_gcs(rig.cluster, patience)

    def look(self) -> float | NotYet:
        """Seconds from the fault to the last change, once there is rest."""
        topology = self._rig.watcher.sample()
        there = _identities(topology)
        if there != self._last:
            self._changed, self._last = clock.now(), there
        still, no_change = clock.now() - self._changed, self._rig.waits.no_change
        if still < no_change:
            return NotYet(f"something changed {still:.1f} s ago")
        away = clock.now() - self._asked
        if not topology.of("gcs") and away < self._looks + no_change:
            return NotYet(f"the GCS has been away for {away:.0f} s, and Ray's nodes look for it for {self._looks:g} s")
        return self._changed - self._asked


def _identities(topology: Topology) -> frozenset[Identity]:
    return frozenset(component.identity for component in topology.components)
