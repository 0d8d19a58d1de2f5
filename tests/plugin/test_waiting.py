"""Apps that answer slowly, not always, or not for a while, and clusters that are small: who is judged, and how."""

from __future__ import annotations

import itertools
import math
from typing import cast

import pytest

from pytest_serve_chaos import clock, load
from pytest_serve_chaos.cluster.base import ClusterSpec
from pytest_serve_chaos.model import HEAD, Json
from pytest_serve_chaos.testing import FakeBehaviour, FakeCluster, Handler
from tests.plugin.conftest import RunChaos
from tests.plugin.endpoint_fakes import FakeWithEndpoints
from tests.plugin.test_verdicts import SHORT, failed_with, inconclusive_with, one

# -- steady state ----------------------------------------------------------------------------------------------------


class Slow(FakeCluster):
    """Each client waits for 1.2 s."""

    def wait(self, path: str) -> float:
        return 0.0 if path.startswith("/-/") else 1.2


def test_a_slow_app_is_judged(run_chaos: RunChaos) -> None:
    run_chaos(one("replica_failure"), cluster=Slow).outcomes(passed=1)


class SomeHang(FakeCluster):
    """One request in six is never answered."""

    def __init__(self, spec: ClusterSpec, behaviour: FakeBehaviour | None = None) -> None:
        super().__init__(spec, behaviour)
        self._count = itertools.count()

    def wait(self, path: str) -> float:
        return math.inf if next(self._count) % 6 == 5 else 0.0


@pytest.mark.parametrize(
    ("timeout", "reason", "advice"),
    [
        ("1s", "requests lost in the last seconds, the last with ReadTimeout", "send one such request yourself"),
        ("60s", "requests hang, the oldest for *; others are answered within", "does not answer some of its requests"),
    ],
)
def test_an_app_of_whose_requests_some_hang_is_not_steady(
    run_chaos: RunChaos, monkeypatch: pytest.MonkeyPatch, timeout: str, reason: str, advice: str
) -> None:
    monkeypatch.setattr(load, "steady_within", lambda sent, replicas, *, least: 3.0)
    ran = run_chaos(
        """
        def test_it(traffic):
            with traffic():
                pass
        """,
        f"--serve-chaos-request-timeout={timeout}",
        cluster=SomeHang,
    )

    inconclusive_with(ran, f"no steady state before the fault: *{reason}", advice)


def test_one_request_in_two_seconds_is_enough_for_a_steady_state(run_chaos: RunChaos) -> None:
    ran = run_chaos(
        """
        def test_it(traffic):
            with traffic(rate=0.5) as requests:
                pass
            assert len(requests.answered_by()) == 4
        """
    )

    ran.outcomes(passed=1)


# -- small clusters, and those with more than is asked ----------------------------------------------------------------


def test_a_single_replica_may_be_away_if_that_is_allowed(run_chaos: RunChaos) -> None:
    ran = run_chaos(
        """
        import pytest

        @pytest.mark.replica_failure
        def test_it(experiment):
            result = experiment.run(availability=0.3, longest_outage="30s", window="1s")
            assert result.lost
            assert any(remark.startswith("whether replica@others is kept is not judged") for remark in result.remarks)
        """,
        behaviour=FakeBehaviour(replicas=1),
    )

    ran.outcomes(passed=1)


def test_a_worker_without_replicas_shows_nothing(run_chaos: RunChaos) -> None:
    one_replica = FakeBehaviour(replicas=1)
    ran = run_chaos(one('worker_failure(which="worker-2")'), "--serve-chaos-persistent-rate=0", behaviour=one_replica)

    inconclusive_with(ran, "answered nothing before the fault, so nothing was tested")


def test_a_victim_is_chosen_among_those_that_serve(run_chaos: RunChaos) -> None:
    ran = run_chaos(
        """
        import pytest

        @pytest.mark.replica_failure
        def test_six_seeds(chaos, traffic, serve_cluster, experiment):
            rig = experiment.rig
            serve_cluster.deploy({"name": "second", "route_prefix": "/second", "import_path": "second:app"})

            def chosen():
                for seed in range(1, 7):
                    rig.random.seed(seed)
                    yield chaos.replica().victim.deployment

            assert set(chosen()) == {"sleepy_pid#SleepyPid", "second#SleepyPid"}
            with traffic():
                assert set(chosen()) == {"sleepy_pid#SleepyPid"}
        """
    )

    ran.outcomes(passed=1)


# -- outages ---------------------------------------------------------------------------------------------------------


class Stalls(FakeCluster):
    """When the head is lost nobody gets an answer for 1.5 s; then all who wait get theirs at once."""

    def wait(self, path: str) -> float:
        return 0.0 if self.world.struck is None else max(0.0, self.world.struck + 1.5 - clock.now())


def test_a_stall_that_is_answered_in_the_end_is_an_outage(run_chaos: RunChaos) -> None:
    ran = run_chaos(one("head_failure", 'availability=0.1, longest_outage="500ms", window="2s"'), cluster=Stalls)

    failed_with(ran, "the longest outage lasted 1.* Allowed: 0.5 s.")
    (result,) = cast("list[dict[str, dict[str, Json]]]", ran.summary["experiments"])
    assert result["measurement"]["lost"] == 0


def test_a_run_can_say_how_long_an_answer_may_take(run_chaos: RunChaos) -> None:
    text = one("head_failure", 'availability=0.9, longest_outage="500ms", window="2s"')
    ran = run_chaos(text, "--serve-chaos-slow-after=3s", cluster=Stalls)

    ran.outcomes(passed=1)
    (result,) = cast("list[dict[str, dict[str, Json]]]", ran.summary["experiments"])
    assert result["measurement"]["slow_after"] == 3.0


def test_a_test_comes_before_the_run_in_how_long_an_answer_may_take(run_chaos: RunChaos) -> None:
    text = one("head_failure", 'availability=0.1, longest_outage="500ms", slow_after="400ms", window="2s"')
    ran = run_chaos(text, "--serve-chaos-slow-after=3s", cluster=Stalls)

    failed_with(ran, "the longest outage lasted 1.* Allowed: 0.5 s.")


class OnlyTheHeadIsAsked(FakeWithEndpoints):
    """Its address is that of the head's proxy alone; probes reach the others."""

    def __init__(self, spec: ClusterSpec, behaviour: FakeBehaviour | None = None) -> None:
        super().__init__(spec, behaviour)
        handler = self._server.handler
        self._server.handler = Handler(self._proxy_of_the_head, handler.answer, handler.retired)

    def _proxy_of_the_head(self) -> dict[int, bool]:
        with self.world.lock:
            heads = {part.pid for part in self.world.of("proxy", HEAD)}
        return {pid: frozen for pid, frozen in self.proxies().items() if pid in heads}


def test_a_victim_that_only_probes_reached_is_pointed_out(run_chaos: RunChaos) -> None:
    ran = run_chaos(
        one('proxy_failure(on="worker-1")', f"{SHORT}, persistent_availability=None"), cluster=OnlyTheHeadIsAsked
    )

    ran.outcomes(passed=1)
    ran.result.stdout.fnmatch_lines(
        ["*note: only probes on persistent connections are known to have reached proxy on*"]
    )
