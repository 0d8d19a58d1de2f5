"""Traffic to each proxy by an address of its own, as on Kubernetes."""

from __future__ import annotations

from pytest_serve_chaos.cluster.base import ClusterSpec
from pytest_serve_chaos.cluster.capabilities import HAS_PROXY_ENDPOINTS, Endpoint, Offer
from pytest_serve_chaos.errors import ObservationError
from pytest_serve_chaos.model import Component, Identity
from pytest_serve_chaos.testing import FakeBehaviour, FakeCluster, FakeServer, Handler, Reply
from tests.plugin.conftest import RunChaos

_PODS = "/pods/"


class FakeWithEndpoints(FakeCluster):
    """Implements `HasProxyEndpoints`: the way to a proxy leads to its very process, and nowhere when that is gone."""

    def __init__(self, spec: ClusterSpec, behaviour: FakeBehaviour | None = None) -> None:
        super().__init__(spec, behaviour)
        self._ways = FakeServer(Handler(lambda: {0: False}, self._pass_on))

    def offers(self) -> tuple[Offer, ...]:
        """What it can do."""
        return (
            *super().offers(),
            HAS_PROXY_ENDPOINTS.by(self),
        )

    def proxy_of(self, client: tuple[str, int]) -> Identity | None:
        """Nobody knows where a connection through a Service ends."""
        del client
        return None

    def proxy_endpoint(self, proxy: Component) -> Endpoint:
        """The way to that one."""
        with self.world.lock:
            part = self.world.parts.by_identity(proxy.identity)
        if part is None:
            raise ObservationError(f"{proxy.name}: its pod is gone")
        return Endpoint(f"http://127.0.0.1:{self._ways.port}{_PODS}{part.pid}")

    def close(self) -> None:
        """Ends both servers."""
        self._ways.close()
        super().close()

    def _pass_on(self, nobody: int, path: str) -> Reply:
        del nobody
        pod, _, route = path.removeprefix(_PODS).partition("/")
        frozen = self.proxies.alive().get(int(pod))
        if frozen is None:
            return Reply(404, f"pods {pod} not found")
        return Reply(504, "timeout") if frozen else self.proxies.answer(int(pod), f"/{route}")


def test_the_fake_has_them() -> None:
    cluster = FakeWithEndpoints(ClusterSpec())
    assert cluster.capability(HAS_PROXY_ENDPOINTS) is not None
    cluster.close()


def test_a_proxy_that_was_replaced_is_sent_requests_again(run_chaos: RunChaos) -> None:
    ran = run_chaos(
        """
        from pytest_serve_chaos import clock

        def wait_for(what, probe):
            return clock.wait_until(what, lambda: probe() or clock.NotYet("not yet"), timeout=120)

        def test_nested(chaos, traffic):
            def kept(since):
                return [r for r in requests.requests if r.path == "proxy on worker-1" and r.scheduled >= since]

            with traffic(rate=4) as requests, chaos.node("worker-1").kill(hold=True) as worker:
                wait_for("a loss", lambda: any(r.lost for r in kept(worker.asked)))
                worker.heal()
                worker.wait_redundancy_back(timeout="60s")
                back = clock.now()
                wait_for("an answer of the new proxy", lambda: any(not r.lost for r in kept(back)))
                answered = clock.now()
                wait_for("more of them", lambda: sum(not r.lost for r in kept(answered)) > 3)
                assert chaos.proxy(on="worker-1").kill().landed
        """,
        cluster=FakeWithEndpoints,
    )

    ran.outcomes(passed=1)
