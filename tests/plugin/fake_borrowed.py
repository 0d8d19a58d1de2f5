"""A fake cluster that is somebody else's."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from pytest_serve_chaos.cluster.base import ClusterSpec
from pytest_serve_chaos.errors import Unsupported
from pytest_serve_chaos.model import Component, Json
from tests.plugin.fake import FakeBehaviour, FakeCluster


class BorrowedFake(FakeCluster):
    """Implements `cluster.base.IsBorrowed`.

    Attributes:
        forbids: Fault -> why its owner does not want it.
    """

    forbids: Mapping[str, str] = {}

    def __init__(self, spec: ClusterSpec, behaviour: FakeBehaviour | None = None) -> None:
        super().__init__(spec, behaviour)
        self._heard: dict[int, frozenset[str]] = {}

    def why_not(self, kind: str, options: Mapping[str, str | float], asked_for: Collection[str]) -> str:
        """As its owner wants it."""
        return self.forbids.get(kind, "")

    def apply_serve_config(self, config: Mapping[str, Json]) -> None:
        """Refuses."""
        raise Unsupported("the Serve config is not ours to change")

    def who_answers(self, proxy: Component) -> frozenset[str]:
        """The replicas of the proxy's own node, or for lack of them all; a deaf proxy knows those of long ago."""
        self.world.tick()
        with self.world.lock:
            part = self.world.by_identity(proxy.identity)
            if part is None or self.behaviour.anonymous:
                return frozenset()
            replicas = self.world.of("replica")
            local = [p.replica_id for p in replicas if p.slot.node == proxy.node]
            if part.deaf_to is None or part.pid not in self._heard:
                self._heard[part.pid] = frozenset(local or [p.replica_id for p in replicas])
            return self._heard[part.pid]


class HeadIsForbidden(BorrowedFake):
    """One whose pods this user may not delete."""

    forbids: Mapping[str, str] = {"head_failure": "this user may not delete pods"}
