"""Fake clusters whose RayService is not upgraded as it should be."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_serve_chaos.cluster.base import ClusterSpec
from pytest_serve_chaos.errors import Unsupported, WaitTimeout
from pytest_serve_chaos.model import Evidence
from pytest_serve_chaos.testing import FakeBehaviour, FakeKubernetesCluster, FakeUpgrades


class _WithoutRoom(FakeUpgrades):
    def upgrade(self) -> Sequence[Evidence]:
        """Waits in vain."""
        raise WaitTimeout("a new RayCluster to take over", timeout=300.0, last_seen="3 pods are Pending")


class _Stays(FakeUpgrades):
    def upgrade(self) -> Sequence[Evidence]:
        """Refuses."""
        raise Unsupported("the RayService's upgradeStrategy is None")


class _DidNotSwitch(FakeUpgrades):
    def serving(self) -> str:
        """Always the same."""
        return "fake-0"


class FakeRayServiceWithoutRoom(FakeKubernetesCluster):
    """The second cluster never runs."""

    def __init__(self, spec: ClusterSpec, behaviour: FakeBehaviour | None = None) -> None:
        super().__init__(spec, behaviour)
        self.upgrades = _WithoutRoom(self.world)


class FakeRayServiceThatStays(FakeKubernetesCluster):
    """Its owner wants no second cluster."""

    def __init__(self, spec: ClusterSpec, behaviour: FakeBehaviour | None = None) -> None:
        super().__init__(spec, behaviour)
        self.upgrades = _Stays(self.world)


class FakeRayServiceThatDidNotSwitch(FakeKubernetesCluster):
    """All is new, and traffic still goes to the old cluster, if KubeRay is to be believed."""

    def __init__(self, spec: ClusterSpec, behaviour: FakeBehaviour | None = None) -> None:
        super().__init__(spec, behaviour)
        self.upgrades = _DidNotSwitch(self.world)
