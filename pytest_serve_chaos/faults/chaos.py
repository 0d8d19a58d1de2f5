"""The targets as a test names them: ``chaos.head``, ``chaos.replica("SleepyPid", on="workers")``, ..."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pytest_serve_chaos.faults import controller, gcs, head, node, proxy, raylet, replica, worker
from pytest_serve_chaos.faults.actors import Part, ServingTarget
from pytest_serve_chaos.faults.app_update import AppTarget
from pytest_serve_chaos.faults.controller import ControllerTarget
from pytest_serve_chaos.faults.custom import About, CustomFault, Functions
from pytest_serve_chaos.faults.gcs import GcsTarget
from pytest_serve_chaos.faults.injection import Injection
from pytest_serve_chaos.faults.node import MachineTarget
from pytest_serve_chaos.faults.nodes import NodeTarget
from pytest_serve_chaos.faults.raylet import RayletTarget
from pytest_serve_chaos.faults.redis import RedisTarget
from pytest_serve_chaos.faults.replica import ReplicaTarget
from pytest_serve_chaos.faults.rig import Rig
from pytest_serve_chaos.faults.upgrade import RayServiceTarget
from pytest_serve_chaos.model import Component, Expectations


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

    def raylet(self, on: str | None = "workers") -> RayletTarget:
        """The raylet of a node (``head``, ``worker-1``), of one of the ``workers``, or of any (None)."""
        return raylet.target(self._rig, on)

    def app(self, name: str | None = None) -> AppTarget:
        """An app of the Serve config (None: the first one with a route), which can be updated."""
        return AppTarget(self._rig, name)

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

    def custom(
        self,
        inject: Callable[[], object],
        heal: Callable[[], object],
        evidence: Callable[[], object],
        *,
        name: str = "custom",
        text: str = "",
        victims: Sequence[Component] = (),
        for_: float | str | None = None,
        landed_within: float | str = "30s",
        expectations: Expectations | None = None,
        undo_command: Sequence[str] = (),
    ) -> CustomFault:
        """A fault of your own: ``with chaos.custom(...)``, or ``experiment.run(fault=chaos.custom(...))``.

        Nothing is broken before that. The plugin asks for the evidence before the fault, which must show nothing then,
        and twice after it.

        Args:
            inject: Breaks something.
            heal: Repairs it; called once, also where `inject` raised an error. With `for_` another thread calls it.
            evidence: Whether it is broken now: a text that says what shows it, or True; None or False if it is not.
            name: Of the fault, in reports.
            text: What it does, for people; the name if there is none.
            victims: The components that it hits, if it hits any; some of those that answer requests must have done so.
            for_: Seconds after which it is healed. None: when the `with` block ends, or all was judged.
            landed_within: Seconds in which there must be evidence.
            expectations: What an experiment demands by default. None: the defaults of `Expectations`.
            undo_command: What repairs it: `serve-chaos undo` prints it if the run ended by force, and does not run it.

        Raises:
            SettingsError: Another fault has that name.
        """
        return CustomFault(
            self._rig,
            Functions(inject, heal, evidence),
            About(name, text, tuple(victims), tuple(undo_command)),
            for_=for_,
            landed_within=landed_within,
            expectations=expectations,
        )

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
