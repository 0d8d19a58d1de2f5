"""The targets as a test names them: ``chaos.head``, ``chaos.replica("SleepyPid", on="workers")``, ..."""

from __future__ import annotations

from pytest_serve_chaos.errors import NoSuchTarget
from pytest_serve_chaos.faults.actors import ControllerTarget, ReplicaTarget, ServingTarget
from pytest_serve_chaos.faults.machines import MachineTarget
from pytest_serve_chaos.faults.nodes import NodeTarget, choose_worker
from pytest_serve_chaos.faults.rig import Rig
from pytest_serve_chaos.faults.stores import GcsTarget, RedisTarget
from pytest_serve_chaos.faults.upgrades import RayServiceTarget
from pytest_serve_chaos.model import HEAD, Component, Role


class Chaos:
    """All that can be broken in one cluster."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig

    @property
    def head(self) -> NodeTarget:
        """The head: GCS, controller and its proxy."""
        return NodeTarget(self._rig, "head_failure", HEAD)

    def worker(self, which: str = "most_replicas") -> NodeTarget:
        """A worker that comes back as the platform brings it back.

        Args:
            which: Its name (``worker-1``), ``most_replicas``, or ``random``.
        """
        return NodeTarget(self._rig, "worker_failure", choose_worker(self._rig, which))

    def node(self, which: str = "most_replicas") -> MachineTarget:
        """The machine under a worker, which stays away until it is healed.

        Args:
            which: As for `worker`, or ``head`` for the machine under the head.
        """
        name = HEAD if which == HEAD else choose_worker(self._rig, which)
        return MachineTarget(self._rig, "node_failure", name, stays_down=True)

    @property
    def controller(self) -> ControllerTarget:
        """Serve's controller."""
        return ControllerTarget(self._rig, "controller_failure", self._one("controller", None))

    def proxy(self, on: str | None = "workers") -> ServingTarget:
        """A proxy, on a node (``head``, ``worker-1``), on one of the ``workers``, or anywhere (None)."""
        return ServingTarget(self._rig, "proxy_failure", self._one("proxy", on))

    def replica(self, deployment: str | None = None, on: str | None = None) -> ReplicaTarget:
        """A replica of a deployment (any for None), on a node, on one of the ``workers``, or anywhere."""
        return ReplicaTarget(self._rig, "replica_failure", self._one("replica", on, deployment))

    @property
    def gcs(self) -> GcsTarget:
        """The GCS alone."""
        return GcsTarget(self._rig, self._one("gcs", None))

    @property
    def redis(self) -> RedisTarget:
        """The store of the GCS."""
        return RedisTarget(self._rig)

    @property
    def rayservice(self) -> RayServiceTarget:
        """The RayService, which can be upgraded."""
        return RayServiceTarget(self._rig)

    def _one(self, role: Role, on: str | None, deployment: str | None = None) -> Component:
        topology = self._rig.watcher.sample()
        candidates = topology.of(role, on=on, deployment=deployment)
        what = role + (f" of {deployment}" if deployment else "") + (f" on {on}" if on else "")
        if not candidates:
            raise NoSuchTarget(
                f"there is no {what}",
                looked_at=[f"{c.name} (PID {c.pid})" for c in topology.of(role)] or [f"no {role}"],
            )
        return self._rig.choose(candidates, what, topology)
