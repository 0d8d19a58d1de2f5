"""Each fault that stops something says for how long, so that it ends by itself where nobody is left to heal it."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Literal

import pytest

from pytest_serve_chaos.cluster.base import ClusterSpec
from pytest_serve_chaos.cluster.capabilities import (
    FREEZES_MACHINES,
    FREEZES_NODES,
    KILLS_MACHINES,
    SETS_HEALTH_FLAGS,
    SIGNALS_PROCESSES,
)
from pytest_serve_chaos.cluster.child_process import ChildProcess
from pytest_serve_chaos.errors import NoSuchTarget
from pytest_serve_chaos.faults.actors import ActorFrozen
from pytest_serve_chaos.faults.child import ChildFrozen
from pytest_serve_chaos.faults.fault import Fault
from pytest_serve_chaos.faults.gcs import GcsFrozen
from pytest_serve_chaos.faults.health_check import HealthCheckFails
from pytest_serve_chaos.faults.node import MachineDown, MachineFrozen
from pytest_serve_chaos.faults.nodes import NodeFrozen
from pytest_serve_chaos.faults.raylet import RayletFrozen
from pytest_serve_chaos.faults.redis import RedisFrozen
from pytest_serve_chaos.faults.rig import Rig
from pytest_serve_chaos.model import Component, Evidence, Identity
from tests.unit.histories import cluster, component
from tests.unit.rigs import cluster_with, rig_around

REPLICA = component("replica", "worker-1")
CHILD = ChildProcess(Identity("process", ("boot", "7", "1")), 7, REPLICA.pid or 0, "engine", "engine")


class Told:
    """Has all that a fault may ask for; remembers for how long it was asked."""

    def __init__(self) -> None:
        self.lasts: list[float | None] = []

    def signal_process(self, identity: Identity, number: int, *, lasts: float | None = None) -> None:
        if number == signal.SIGSTOP:
            self.lasts.append(lasts)
        raise NoSuchTarget("it was never there")

    def freeze_node(self, name: str, *, lasts: float | None = None) -> Sequence[Evidence]:
        self.lasts.append(lasts)
        return ()

    freeze_machine = freeze_node

    def kill_machine(
        self, name: str, *, how: Literal["kill", "stop"], lasts: float | None = None
    ) -> Sequence[Evidence]:
        return self.freeze_node(name, lasts=lasts)

    def set_health_flag(
        self, replica: Component, mode: Literal["raise", "hang"], *, lasts: float | None = None
    ) -> None:
        self.lasts.append(lasts)

    def thaw_node(self, name: str) -> None:
        raise NotImplementedError

    thaw_machine = revive_machine = thaw_node

    def clear_health_flag(self, replica: Component) -> None:
        raise NotImplementedError


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def rig(told: Told) -> Rig:
    there = cluster_with(
        FREEZES_MACHINES.by(told),
        FREEZES_NODES.by(told),
        KILLS_MACHINES.by(told),
        SETS_HEALTH_FLAGS.by(told),
        SIGNALS_PROCESSES.by(told),
        spec=ClusterSpec(),
    )
    return rig_around(there, SimpleNamespace(sample=cluster, report=SimpleNamespace(serve=None)))


FAULTS: dict[str, Callable[[Rig], Fault]] = {
    "an actor": lambda rig: ActorFrozen(rig, "replica_failure", REPLICA, lasts=45.0),
    "the GCS": lambda rig: GcsFrozen(rig, "gcs_failure", component("gcs", "head"), lasts=45.0),
    "a raylet": lambda rig: RayletFrozen(rig, "raylet_failure", REPLICA, lasts=45.0),
    "Redis": lambda rig: RedisFrozen(rig, "redis_failure", REPLICA, lasts=45.0),
    "a child": lambda rig: ChildFrozen(rig, REPLICA, (CHILD,), None, lasts=45.0),
    "a node": lambda rig: NodeFrozen(rig, "worker_failure", "worker-1", (), 45.0),
    "a machine": lambda rig: MachineFrozen(rig, "node_failure", "worker-1", (), 45.0),
    "a machine that is killed": lambda rig: MachineDown(rig, "worker-1", (), frozenset(), lasts=45.0),
}


@pytest.mark.parametrize("name", FAULTS)
def test_it_lasts_as_long_as_the_test_says(rig: Rig, told: Told, name: str) -> None:
    with contextlib.suppress(NoSuchTarget):
        FAULTS[name](rig).strike()
    assert told.lasts == [45.0]


def test_a_machine_stays_away_until_it_is_healed(rig: Rig, told: Told) -> None:
    MachineDown(rig, "worker-1", (), frozenset()).strike()
    assert told.lasts == [None]


def test_a_health_check_fails_for_twice_the_time_in_which_serve_must_have_noticed(rig: Rig, told: Told) -> None:
    fault = HealthCheckFails(rig, REPLICA, "raise")
    fault.strike()
    assert told.lasts == [2 * fault.sign_within]
