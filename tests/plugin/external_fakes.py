"""A fake cluster that is somebody else's."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from pytest_serve_chaos.cluster.base import ClusterSpec
from pytest_serve_chaos.cluster.capabilities import HAS_PROXY_ENDPOINTS, IS_EXTERNAL, Endpoint, Offer
from pytest_serve_chaos.cluster.kubernetes.external.policy import Grants, Terms
from pytest_serve_chaos.cluster.kubernetes.external.rights import RUN, Right
from pytest_serve_chaos.cluster.policy import Touch
from pytest_serve_chaos.errors import Unsupported
from pytest_serve_chaos.model import Component, Json
from pytest_serve_chaos.testing import FakeBehaviour, FakeCluster, FakeProcesses, FakeServer, Handler
from pytest_serve_chaos.traffic.request import Message


class ExternalFake(FakeCluster):
    """Implements `cluster.capabilities.IsExternal`, on the terms of the backend `kubernetes`.

    Attributes:
        lacking: The rights that this user has not.
        targets: ``app#Deployment`` -> wanted replicas; empty: as they are.
    """

    lacking: Collection[Right] = ()
    targets: Mapping[str, int] = {}

    def __init__(self, spec: ClusterSpec, behaviour: FakeBehaviour | None = None) -> None:
        super().__init__(spec, behaviour)
        self._heard: dict[int, frozenset[str]] = {}

    def offers(self) -> tuple[Offer, ...]:
        """What it can do."""
        return (
            *super().offers(),
            IS_EXTERNAL.by(self),
        )

    def why_not(self, touch: Touch, asked_for: Collection[str]) -> str:
        """As its owner, this user's rights and its shape have it."""
        terms = Terms(self.spec, Grants(self.lacking), lambda: self.targets or self.world.plan.targets(), lambda: False)
        return terms.why_not(touch, asked_for)

    def admit(self, touch: Touch, asked_for: Collection[str]) -> None:
        """Refuses what `why_not` has a reason against."""
        reason = self.why_not(touch, asked_for)
        if reason:
            raise Unsupported(reason)

    def kill_actor(self, actor_id: str, *, no_restart: bool) -> float:
        """As every fake cluster does."""
        return FakeProcesses(self.world).kill_actor(actor_id, no_restart=no_restart)

    def apply_serve_config(self, config: Mapping[str, Json]) -> None:
        """Refuses."""
        raise Unsupported("the Serve config is not ours to change")

    def who_answers(self, proxy: Component, messages: Sequence[Message] = ()) -> frozenset[str]:
        """The replicas of the proxy's own node, or for lack of them all; a deaf proxy knows those of long ago."""
        self.world.tick()
        with self.world.lock:
            part = self.world.by_identity(proxy.identity)
            if part is None or self.behaviour.anonymous:
                return frozenset()
            replicas = self.world.of("replica")
            local = [p.replica_id for p in replicas if p.slot.node == proxy.node]
            if part.stale_routes is None or part.pid not in self._heard:
                self._heard[part.pid] = frozenset(local or [p.replica_id for p in replicas])
            return self._heard[part.pid]


class NothingMayRun(ExternalFake):
    """One in whose pods this user may run nothing."""

    lacking = RUN


class HasOneReplica(ExternalFake):
    """One whose only deployment wants a single replica."""

    targets: Mapping[str, int] = {"sleepy_pid#SleepyPid": 1}


class LedElsewhere(ExternalFake):
    """One whose URL leads to another cluster, as one of production does; each of its own proxies can be asked alone."""

    def __init__(self, spec: ClusterSpec, behaviour: FakeBehaviour | None = None) -> None:
        super().__init__(spec, behaviour)
        self._other = FakeCluster(spec, behaviour)
        for part in self._other.world.of("replica"):
            part.replica_id = f"other-{part.replica_id}"
        self._alone: list[FakeServer] = []

    def offers(self) -> tuple[Offer, ...]:
        """What it can do."""
        return (
            *super().offers(),
            HAS_PROXY_ENDPOINTS.by(self),
        )

    @property
    def url(self) -> str:
        """That of the other one."""
        return self._other.url

    def proxy_endpoint(self, proxy: Component) -> Endpoint:
        """An address at which that proxy alone answers."""

        def alone() -> dict[int, bool]:
            return {pid: frozen for pid, frozen in self.proxies().items() if pid == proxy.pid}

        self._alone.append(FakeServer(Handler(alone, self.answer)))
        return Endpoint(f"http://127.0.0.1:{self._alone[-1].port}")

    def close(self) -> None:
        """Ends both clusters."""
        for server in self._alone:
            server.close()
        self._other.close()
        super().close()
