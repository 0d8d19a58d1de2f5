"""A fake cluster that is a RayService, which can be upgraded."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_serve_chaos import clock
from pytest_serve_chaos.cluster.capabilities import UPGRADES_RAY_SERVICE, Offer
from pytest_serve_chaos.errors import Unsupported, WaitTimeout
from pytest_serve_chaos.model import Evidence
from tests.plugin.fake import FakeCluster


class FakeRayService(FakeCluster):
    """Implements `UpgradesRayService`."""

    upgrades = 0

    def offers(self) -> tuple[Offer, ...]:
        """What it can do."""
        return (
            *super().offers(),
            UPGRADES_RAY_SERVICE.by(self),
        )

    def serving(self) -> str:
        """The cluster of the last upgrade."""
        return f"fake-{self.upgrades}"

    def upgrade(self) -> Sequence[Evidence]:
        """From one moment to the next all is new."""
        if self.behaviour.harmless:
            return ()
        self.world.renew()
        self.upgrades += 1
        return (Evidence(clock.now(), "victim", "the old pods have ended"),)


class FakeRayServiceWithoutRoom(FakeRayService):
    """The second cluster never runs."""

    def upgrade(self) -> Sequence[Evidence]:
        """Waits in vain."""
        raise WaitTimeout("a new RayCluster to take over", timeout=300.0, last_seen="3 pods are Pending")


class FakeRayServiceThatStays(FakeRayService):
    """Its owner wants no second cluster."""

    def upgrade(self) -> Sequence[Evidence]:
        """Refuses."""
        raise Unsupported("the RayService's upgradeStrategy is None")


class FakeRayServiceThatDidNotSwitch(FakeRayService):
    """All is new, and traffic still goes to the old cluster, if KubeRay is to be believed."""

    def serving(self) -> str:
        """Always the same."""
        return "fake-0"
