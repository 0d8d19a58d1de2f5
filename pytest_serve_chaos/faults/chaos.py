"""The targets as a test names them: ``chaos.head``, ``chaos.replica("SleepyPid", on="workers")``, ..."""

from __future__ import annotations

from pytest_serve_chaos.faults import controller, gcs, head, node, proxy, replica, worker
from pytest_serve_chaos.faults.actors import Part, ServingTarget
from pytest_serve_chaos.faults.controller import ControllerTarget
from pytest_serve_chaos.faults.gcs import GcsTarget
from pytest_serve_chaos.faults.injection import Injection
from pytest_serve_chaos.faults.node import MachineTarget
from pytest_serve_chaos.faults.nodes import NodeTarget
from pytest_serve_chaos.faults.redis import RedisTarget
from pytest_serve_chaos.faults.replica import ReplicaTarget
from pytest_serve_chaos.faults.rig import Rig
from pytest_serve_chaos.faults.upgrade import RayServiceTarget


class Chaos:
    """All that can be broken in one cluster."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig

    @property
    def head(self) -> NodeTarget:
        """The head: GCS, controller and its proxy."""
        return head.target(self._rig)

    def worker(self, which: str = "most_replicas") -> NodeTarget:
        """A worker that comes back as the platform brings it back.

        Args:
            which: Its name (``worker-1``), ``most_replicas``, or ``random``.
        """
        return worker.target(self._rig, which)

    def node(self, which: str = "most_replicas") -> MachineTarget:
        """The machine under a worker, which stays away until it is healed.

        Args:
            which: As for `worker`, or ``head`` for the machine under the head.
        """
        return node.target(self._rig, which)

    @property
    def controller(self) -> ControllerTarget:
        """Serve's controller."""
        return controller.target(self._rig)

    def proxy(self, on: str | None = "workers", part: Part | None = None) -> ServingTarget:
        """A proxy, on a node (``head``, ``worker-1``), on one of the ``workers``, or anywhere (None).

        Args:
            on: Where.
            part: Where HAProxy takes the requests, which process: ``haproxy``, or its ``manager``. None: the one that
                takes the requests, and for `ray.kill` the manager.
        """
        return proxy.target(self._rig, on, part)

    def replica(self, deployment: str | None = None, on: str | None = None) -> ReplicaTarget:
        """A replica of a deployment (any for None), on a node, on one of the ``workers``, or anywhere."""
        return replica.target(self._rig, deployment, on)

    @property
    def gcs(self) -> GcsTarget:
        """The GCS alone."""
        return gcs.target(self._rig)

    @property
    def redis(self) -> RedisTarget:
        """The store of the GCS."""
        return RedisTarget(self._rig)

    @property
    def rayservice(self) -> RayServiceTarget:
        """The RayService, which can be upgraded."""
        return RayServiceTarget(self._rig)

    def inject(self, name: str, /, *, must_land: bool = True, **keywords: object) -> Injection:
        """Any fault by its marker's name, those of plugins too: ``chaos.inject("head_failure", how="stop")``.

        Args:
            name: The marker's name.
            must_land: Whether it is an error if nothing shows that it landed.
            **keywords: What the marker can say.

        Raises:
            NotLanded: It did not land, and must.
            SettingsError: There is no such fault, or it does not take these keywords.
            Unsupported: The cluster cannot do it.
        """
        return self._rig.run.faults.choose(name, keywords).inject(self._rig, must_land=must_land)
