"""The fault `rayservice_upgrade`: the RayService is upgraded under traffic.

It is not a failure, but everything that serves is replaced by it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

from pytest_serve_chaos import clock
from pytest_serve_chaos.analysis.configuration import Configuration
from pytest_serve_chaos.cluster.base import ClusterSpec
from pytest_serve_chaos.cluster.capabilities import FAILS_UPGRADES, UPGRADES_RAY_SERVICE
from pytest_serve_chaos.cluster.policy import Touch
from pytest_serve_chaos.errors import CommandFailed, NotHealed, ObservationError, Unsupported, WaitTimeout
from pytest_serve_chaos.events import Note
from pytest_serve_chaos.faults.defaults import ALL, with_profile
from pytest_serve_chaos.faults.fault import Strike
from pytest_serve_chaos.faults.injection import Injection
from pytest_serve_chaos.faults.rig import Rig
from pytest_serve_chaos.faults.spec import FaultSpec, Need, keyword
from pytest_serve_chaos.kinds import Choice
from pytest_serve_chaos.model import Component, ConfigWarning, Evidence, Expectations
from pytest_serve_chaos.prediction import node_rules

NAME = "rayservice_upgrade"

_VERB = "upgrade a RayService, which takes KubeRay and a cluster of our own"

BadUpgrade = Literal["never_ready"]

_JUDGED_FOR = 60.0
"""Seconds from the beginning of an upgrade that never ends, over which the old cluster has to serve."""


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


@dataclass
class RayServiceStuck:
    """A second cluster is to take over and never becomes ready; the first serves on.

    Attributes:
        before: Which cluster serves, by its name.
        unchecked: Why there is no post-recovery check.
    """

    rig: Rig
    victims: tuple[Component, ...]
    kind: str = NAME
    serves: bool = True
    sick: tuple[Component, ...] = ()
    sign_within: ClassVar[float] = 15.0
    unchecked: ClassVar[str] = (
        "there is no post-recovery check while a RayCluster is to take over: until then KubeRay hands no Serve config"
        " to the one that serves"
    )
    before: str = ""
    _begun: bool = field(default=False, init=False)

    @property
    def options(self) -> Mapping[str, object]:
        """What its marker says."""
        return {"how": "upgrade", "bad": "never_ready"}

    @property
    def text(self) -> str:
        """A description of the fault, for people."""
        return "the RayService is upgraded to a RayCluster whose head no node takes"

    def strike(self) -> Strike:
        """Begins the upgrade, and waits until a part of the new cluster is there that cannot start."""
        self.before = self.rig.capability(UPGRADES_RAY_SERVICE, _VERB).serving()
        asked = clock.now()
        self._begun = True
        try:
            evidence = self.rig.capability(FAILS_UPGRADES, _VERB).begin_in_vain()
        except Unsupported:
            self._begun = False
            raise
        except WaitTimeout as error:
            self.rig.progress(error.what)
            self.rig.log.add(Note(error.what))
            return Strike(asked, ())
        return Strike(asked, evidence)

    def sign(self, struck: float) -> Evidence | None:
        """KubeRay says that another cluster is to take over, and sends traffic to the first."""
        try:
            pending = self.rig.capability(FAILS_UPGRADES, _VERB).pending()
            now = self.rig.capability(UPGRADES_RAY_SERVICE, _VERB).serving()
        except ObservationError:
            return None
        if not pending or now != self.before:
            return None
        return Evidence(clock.now(), "cluster", f"KubeRay waits for RayCluster {pending}, and sends traffic to {now}")

    def heal(self) -> None:
        """Puts the spec of before back.

        Raises:
            NotHealed: No cluster serves alone afterwards.
        """
        if not self._begun:
            return
        try:
            self.rig.capability(FAILS_UPGRADES, _VERB).end_in_vain()
        except (WaitTimeout, CommandFailed) as error:
            raise NotHealed("the upgrade of the RayService is not over", checked=[error.what]) from error
        self._begun = False


@dataclass(frozen=True)
class RayServiceTarget:
    """The RayService: ``chaos.rayservice``."""

    rig: Rig

    def upgrade(self, *, bad: BadUpgrade | None = None, must_land: bool = True) -> Injection:
        """Has KubeRay bring up a new RayCluster, move the traffic to it and delete the old one; waits until it is gone.

        Args:
            bad: What is wrong with the new RayCluster; ``never_ready``: it never takes over, until it is healed.
            must_land: Whether it is an error if nothing shows that it happened.

        Raises:
            NotLanded: The upgrade did not come to its end, and it must (`must_land`).
            Unsupported: There is no KubeRay, or the RayService is external.
        """
        self.rig.capability(UPGRADES_RAY_SERVICE, _VERB)
        topology = self.rig.watcher.sample()
        victims = tuple(c for c in topology.components if c.role != "redis")
        if bad is not None:
            self.rig.capability(FAILS_UPGRADES, _VERB)
            return Injection(self.rig, RayServiceStuck(self.rig, victims), must_land=must_land)
        return Injection(self.rig, RayServiceUpgraded(self.rig, victims), must_land=must_land)


def _warnings(configuration: Configuration) -> Iterator[ConfigWarning]:
    if configuration.setup.room.second:
        yield ConfigWarning(
            "no_room_for_upgrade",
            configuration.setup.room.second,
            "an upgrade does not get all of its pods while the first RayCluster is there",
            "room for two RayClusters in that ResourceQuota",
        )


# -- the fault ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class UpgradeKeywords:
    """What its marker can say."""

    bad: BadUpgrade | None = keyword(Choice("never_ready"), None)


def _inject(rig: Rig, how: str, given: UpgradeKeywords, must_land: bool) -> Injection:
    return RayServiceTarget(rig).upgrade(bad=given.bad, must_land=must_land)


def _touch(how: str, given: UpgradeKeywords) -> Touch:
    return Touch(refused="the plugin does not change the spec of an external RayService, so it cannot upgrade it")


def _adapted(expected: Expectations, cluster: ClusterSpec, how: str, given: UpgradeKeywords) -> Expectations:
    """What is expected; of an upgrade that never ends, that the old cluster serves on as if there were none."""
    if given.bad is None:
        return with_profile(expected, cluster)
    return replace(
        expected, window=_JUDGED_FOR, traffic_back=30.0, redundancy_back=120.0, replaced=(), kept=ALL, settled=False
    )


FAULT = FaultSpec(
    name=NAME,
    breaks="the RayCluster under a RayService, which a new one replaces",
    verbs=("upgrade",),
    keywords=UpgradeKeywords,
    inject=_inject,
    # From the change of the spec on: a new cluster starts and takes over, and the old one goes, all at no cost.
    expectations=Expectations(
        window=120.0, lost_beyond_in_flight=0, traffic_back=240.0, redundancy_back=240.0, replaced=ALL
    ),
    adapt=_adapted,
    needs=(Need((UPGRADES_RAY_SERVICE,), _VERB), Need((FAILS_UPGRADES,), _VERB, only={"bad": "never_ready"})),
    external=_touch,
    target="chaos.rayservice",
    effect="nothing: KubeRay replaces the RayCluster (`kind` only)",
    dry_run=True,
    predict=node_rules.upgrade,
    warnings=_warnings,
)
