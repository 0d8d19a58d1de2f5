"""A fake cluster as on Kubernetes: with machines under its nodes, and a RayService that can be upgraded."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Literal

from pytest_serve_chaos import clock
from pytest_serve_chaos.cluster.base import ClusterSpec
from pytest_serve_chaos.cluster.capabilities import (
    DELETES_MACHINES,
    DRAINS_MACHINES,
    FAILS_UPGRADES,
    FREEZES_MACHINES,
    KILLS_MACHINES,
    REMEMBERS_CONNECTIONS,
    UPGRADES_RAY_SERVICE,
    Offer,
)
from pytest_serve_chaos.model import Evidence
from pytest_serve_chaos.testing.behaviour import FakeBehaviour
from pytest_serve_chaos.testing.capabilities import FakeNodes
from pytest_serve_chaos.testing.cluster import FakeCluster
from pytest_serve_chaos.testing.world import World

COLLECTED_AFTER = 0.5
"""Seconds until the pods of a deleted node are gone."""


class FakeMachines:
    """Implements the capabilities on machines.

    Args:
        world: What lives in the cluster.

    Attributes:
        calls: What was asked of it, in order: ``kill worker-1``, ``revive worker-1``.
        forgotten: How many times it was asked to forget the connections that nobody answered.
    """

    def __init__(self, world: World) -> None:
        self._nodes = FakeNodes(world)
        self.calls: list[str] = []
        self.forgotten = 0

    def kill_machine(
        self, name: str, *, how: Literal["kill", "stop"], lasts: float | None = None
    ) -> Sequence[Evidence]:
        """Takes all that is on the machine down."""
        self.calls.append(f"{how} {name}")
        return self._nodes.kill_node(name, how=how, hold=True)

    def revive_machine(self, name: str) -> None:
        """Lets it come back."""
        self._restore("revive", name)

    def forget_connections(self) -> None:
        """Counts the call."""
        self.forgotten += 1

    def freeze_machine(self, name: str, *, lasts: float | None = None) -> Sequence[Evidence]:
        """Stops all that is on the machine."""
        self.calls.append(f"freeze {name}")
        return self._nodes.freeze_node(name)

    def thaw_machine(self, name: str) -> None:
        """Resumes all that is on the machine."""
        self.calls.append(f"thaw {name}")
        self._nodes.thaw_node(name)

    def delete_machine(self, name: str, *, within: float) -> Sequence[Evidence]:
        """Deletes the machine, whose pods go when they are collected."""
        self.calls.append(f"delete {name}")
        time.sleep(min(within, COLLECTED_AFTER))
        return self._nodes.kill_node(name, how="kill", hold=True) if within >= COLLECTED_AFTER else ()

    def register_machine(self, name: str) -> None:
        """Lets it come back."""
        self._restore("register", name)

    def drain_machine(self, name: str) -> Sequence[Evidence]:
        """Takes all that is on the machine down."""
        self.calls.append(f"drain {name}")
        if not self._nodes.kill_node(name, how="stop", hold=True):
            return ()
        return (Evidence(clock.now(), "victim", f"the pods of {name} have ended"),)

    def reopen_machine(self, name: str) -> None:
        """Lets it come back."""
        self._restore("reopen", name)

    def _restore(self, verb: str, name: str) -> None:
        self.calls.append(f"{verb} {name}")
        self._nodes.restore_node(name)


class FakeUpgrades:
    """Implements `UpgradesRayService` and `FailsUpgrades`.

    Args:
        world: What lives in the cluster.

    Attributes:
        done: How many upgrades there were.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._waits_for = ""
        self.done = 0

    def serving(self) -> str:
        """The cluster of the last upgrade."""
        return f"fake-{self.done}"

    def upgrade(self) -> Sequence[Evidence]:
        """Replaces everything from one moment to the next."""
        if self._world.behaviour.harmless:
            return ()
        self._world.replace_all()
        self.done += 1
        return (Evidence(clock.now(), "victim", "the old pods have ended"),)

    def pending(self) -> str:
        """The cluster that never becomes ready, while there is one."""
        return self._waits_for

    def begin_in_vain(self) -> Sequence[Evidence]:
        """Makes a second cluster without a head."""
        if self._world.behaviour.harmless:
            return ()
        self._world.strike()
        self._waits_for = "fake-never"
        return (Evidence(clock.now(), "victim", "no node takes the new head"),)

    def end_in_vain(self) -> None:
        """A third cluster takes over, as with KubeRay."""
        if self._waits_for:
            self._waits_for = ""
            self.upgrade()


class FakeKubernetesCluster(FakeCluster):
    """A fake cluster that can also be broken in the ways that take Kubernetes.

    Arguments: those of `FakeCluster`.

    Attributes:
        machines: The machines under its nodes.
        upgrades: The upgrades of its RayService.
    """

    def __init__(self, spec: ClusterSpec, behaviour: FakeBehaviour | None = None) -> None:
        super().__init__(spec, behaviour)
        self.machines = FakeMachines(self.world)
        self.upgrades = FakeUpgrades(self.world)

    def offers(self) -> tuple[Offer, ...]:
        """Its capabilities."""
        return (
            *super().offers(),
            DELETES_MACHINES.by(self.machines),
            DRAINS_MACHINES.by(self.machines),
            FREEZES_MACHINES.by(self.machines),
            KILLS_MACHINES.by(self.machines),
            REMEMBERS_CONNECTIONS.by(self.machines),
            FAILS_UPGRADES.by(self.upgrades),
            UPGRADES_RAY_SERVICE.by(self.upgrades),
        )
