"""The fault `rayservice_upgrade`: the RayService is upgraded under traffic.

It is not a failure, but everything that serves is replaced by it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from pytest_serve_chaos import clock
from pytest_serve_chaos.cluster.capabilities import UPGRADES_RAY_SERVICE
from pytest_serve_chaos.cluster.policy import Touch
from pytest_serve_chaos.errors import NotHealed, ObservationError, Unsupported, WaitTimeout
from pytest_serve_chaos.events import Note
from pytest_serve_chaos.faults.defaults import ALL
from pytest_serve_chaos.faults.injection import Injection, Strike
from pytest_serve_chaos.faults.rig import Rig
from pytest_serve_chaos.faults.spec import FaultSpec, Need, NoKeywords
from pytest_serve_chaos.model import Component, Evidence, Expectations

NAME = "rayservice_upgrade"

_VERB = "upgrade a RayService, which takes KubeRay and a cluster of our own"


@dataclass
class RayServiceUpgraded:
    """A second cluster starts next to the first and takes over the traffic, and the first goes.

    Attributes:
        before: Which cluster served before, by its name.
    """

    rig: Rig
    victims: tuple[Component, ...]
    kind: str = NAME
    serves: bool = True
    sick: tuple[Component, ...] = ()
    sign_within: ClassVar[float] = 15.0
    before: str = ""
    _unfinished: str = field(default="", init=False)

    @property
    def options(self) -> Mapping[str, object]:
        """There is one way only."""
        return {"how": "upgrade"}

    @property
    def text(self) -> str:
        """A description of the fault, for people."""
        return "the RayService is upgraded: a new RayCluster takes over, and the old one is deleted"

    def strike(self) -> Strike:
        """Upgrades it, and waits until the old cluster is gone; without a sign where that did not come to pass."""
        cluster = self.rig.capability(UPGRADES_RAY_SERVICE, _VERB)
        self.before = cluster.serving()
        self._unfinished = "it was begun and is not over"
        asked = clock.now()
        try:
            evidence: Sequence[Evidence] = cluster.upgrade()
        except Unsupported:
            self._unfinished = ""
            raise
        except WaitTimeout as error:
            self._unfinished = str(error)
            self.rig.progress(error.what)
            self.rig.log.add(Note(error.what))
            return Strike(asked, ())
        self._unfinished = ""
        # It is asked for and graceful, so no request counts as in flight on what goes.
        return Strike(asked, (Evidence(asked, "victim", f"an upgrade of {self.before} was asked for"), *evidence))

    def sign(self, struck: float) -> Evidence | None:
        """KubeRay sends the traffic to another cluster."""
        try:
            now = self.rig.capability(UPGRADES_RAY_SERVICE, _VERB).serving()
        except ObservationError:
            return None
        if now in ("", self.before):
            return None
        return Evidence(clock.now(), "cluster", f"KubeRay sends traffic to RayCluster {now}, not to {self.before}")

    def heal(self) -> None:
        """What is upgraded stays so.

        Raises:
            NotHealed: The upgrade is not over, and nothing ends it: for the old spec KubeRay would make a third
                RayCluster.
        """
        if self._unfinished:
            raise NotHealed("the upgrade of the RayService is not over", checked=[self._unfinished])


@dataclass(frozen=True)
class RayServiceTarget:
    """The RayService: ``chaos.rayservice``."""

    rig: Rig

    def upgrade(self, *, must_land: bool = True) -> Injection:
        """Has KubeRay bring up a new RayCluster, move the traffic to it and delete the old one; waits until it is gone.

        Raises:
            NotLanded: The upgrade did not come to its end, and it must (`must_land`).
            Unsupported: There is no KubeRay, or the RayService is external.
        """
        self.rig.capability(UPGRADES_RAY_SERVICE, _VERB)
        topology = self.rig.watcher.sample()
        victims = tuple(c for c in topology.components if c.role != "redis")
        return Injection(self.rig, RayServiceUpgraded(self.rig, victims), must_land=must_land)


# -- the fault ---------------------------------------------------------------------------------------------------


def _inject(rig: Rig, how: str, given: NoKeywords, must_land: bool) -> Injection:
    return RayServiceTarget(rig).upgrade(must_land=must_land)


def _touch(how: str, given: NoKeywords) -> Touch:
    return Touch(refused="the plugin does not change the spec of an external RayService, so it cannot upgrade it")


FAULT = FaultSpec(
    name=NAME,
    breaks="the RayCluster under a RayService, which a new one replaces",
    verbs=("upgrade",),
    keywords=NoKeywords,
    inject=_inject,
    # From the change of the spec on: a new cluster starts and takes over, and the old one goes, all at no cost.
    expectations=Expectations(
        window=120.0, lost_beyond_in_flight=0, traffic_back=240.0, redundancy_back=240.0, replaced=ALL
    ),
    needs=(Need((UPGRADES_RAY_SERVICE,), _VERB),),
    external=_touch,
    target="chaos.rayservice",
    effect="nothing: KubeRay replaces the RayCluster (`kind` only)",
)
