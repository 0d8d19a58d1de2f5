"""Traffic to each proxy by an address of its own, as on Kubernetes."""

from __future__ import annotations

from pytest_serve_chaos.cluster.base import ClusterSpec
from pytest_serve_chaos.cluster.capabilities import HAS_PROXY_ENDPOINTS
from tests.plugin.conftest import RunChaos
from tests.plugin.endpoint_fakes import FakeWithEndpoints


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
