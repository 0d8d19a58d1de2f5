"""Each reason for a verdict, on a cluster that is broken, slow or small, and whose app answers late or not always."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Literal, cast

import pytest

from pytest_serve_chaos import clock, final_check, load, steady
from pytest_serve_chaos.clock import NotYet
from pytest_serve_chaos.cluster.base import ClusterSpec
from pytest_serve_chaos.cluster.capabilities import KILLS_NODES, Offer
from pytest_serve_chaos.faults.rig import Rig
from pytest_serve_chaos.model import HEAD, Evidence, Json, Request
from pytest_serve_chaos.observe import post_recovery
from pytest_serve_chaos.testing import FakeBehaviour, FakeCluster, FakeNodes, FakeProxies, Handler, World
from tests.plugin.conftest import SOON_GIVEN_UP, Ran, RunChaos
from tests.plugin.test_endpoints import FakeWithEndpoints

SHORT = 'availability=0.7, window="700ms"'


def one(marker: str, demands: str = SHORT) -> str:
    """A test with one experiment."""
    return f"""
        import pytest

        @pytest.mark.{marker}
        def test_it(experiment):
            experiment.run({demands})
    """


def failed_with(ran: Ran, *reasons: str) -> None:
    ran.outcomes(failed=1)
    ran.result.stdout.fnmatch_lines([f"*{reason}*" for reason in reasons])


def inconclusive_with(ran: Ran, *reasons: str) -> None:
    ran.outcomes(inconclusive=1)
    ran.result.stdout.fnmatch_lines([f"*{reason}*" for reason in reasons])


# -- failed: the cluster is broken -----------------------------------------------------------------------------------


def test_an_outage_fails(run_chaos: RunChaos) -> None:
    ran = run_chaos(
        one("head_failure", 'availability=0.8, longest_outage="500ms", window="1s"'),
        behaviour=FakeBehaviour(outage=33),
    )

    failed_with(ran, "requests lost in the * s after the fault*HTTP 503*", "the longest outage lasted *Allowed: 0.5 s.")


def test_wrong_answers_fail(run_chaos: RunChaos) -> None:
    ran = run_chaos(
        """
        import pytest

        @pytest.mark.replica_failure
        def test_it(experiment):
            checked = experiment.sending(check=lambda answer: answer.body.isdigit())
            checked.run(availability=0.7, window="1s", redundancy_back="1s", traffic_back="1s")
        """,
        behaviour=FakeBehaviour(garbles=True),
    )

    failed_with(ran, "requests lost in the * s after the fault (* WrongAnswer*): *Allowed: 30 % lost.")


def test_deaf_proxies_fail(run_chaos: RunChaos, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(post_recovery, "HEARS_WITHIN", 0.5)
    ran = run_chaos(
        one('controller_failure(replacement="new_actor")', f"{SHORT}, kept=('replica', 'proxy')"),
        behaviour=FakeBehaviour(stale_proxies=True),
    )

    failed_with(ran, "3 proxies do not hear their controller (proxy on head, proxy on worker-1, proxy on worker-2)*")
    assert "replace proxy on worker-2, which does not hear the new controller" in ran.text


def test_a_proxy_that_never_learns_of_a_second_replica_fails(
    run_chaos: RunChaos, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(post_recovery, "HEARS_WITHIN", 3.0)
    ran = run_chaos(one("controller_failure"), behaviour=FakeBehaviour(outdated="worker-2"))

    failed_with(
        ran,
        "1 proxy does not hear its controller (proxy on worker-2): 1 of 3 proxies do not hear the controller:"
        " the second replica of a new app was not served by proxy on worker-2 within 3 s (ray#63784).*",
    )


def test_a_leaked_actor_fails(run_chaos: RunChaos, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(final_check, "_FORGOTTEN_WITHIN", 0.3)
    ran = run_chaos(one("replica_failure"), behaviour=FakeBehaviour(leaks=True))

    failed_with(ran, "the GCS says that ServeReplica:sleepy_pid:SleepyPid 1eaf1eaf is ALIVE, but it is not there")


def test_a_replica_to_which_nothing_is_sent_any_more_fails(
    run_chaos: RunChaos, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(final_check, "idle_after", lambda replicas, rate: 0.5)
    ran = run_chaos(one("controller_failure"), behaviour=FakeBehaviour(forgets=True))

    failed_with(ran, "replica sleepy_pid#SleepyPid on * (PID *) answered nothing in the * since redundancy was back")


def test_a_replica_that_is_never_replaced_fails(run_chaos: RunChaos) -> None:
    ran = run_chaos(one("replica_failure", f'{SHORT}, redundancy_back="1s"'), behaviour=FakeBehaviour(keeps_holes=True))

    failed_with(
        ran,
        "redundancy never came back in * of observation (missing: replica sleepy_pid#SleepyPid on worker-*",
        "not replaced: only 3 of 4 replicas there again. Demanded: replica@victims replaced.",
    )


def test_what_should_have_been_kept_fails(run_chaos: RunChaos) -> None:
    failed_with(run_chaos(one("worker_failure", f'{SHORT}, kept="workers"')), "1 of 2 workers not kept: worker-*")


# -- inconclusive: nothing was shown ---------------------------------------------------------------------------------


def test_a_fault_that_does_nothing_is_inconclusive(run_chaos: RunChaos) -> None:
    ran = run_chaos(one("worker_failure"), behaviour=FakeBehaviour(harmless=True))

    inconclusive_with(ran, "the fault did not land*; signs of it: none")


def test_a_process_that_survives_its_signal_is_inconclusive(run_chaos: RunChaos) -> None:
    ran = run_chaos(one("controller_failure"), behaviour=FakeBehaviour(harmless=True))

    inconclusive_with(ran, "the fault did not land within *; signs of it: none")


def test_a_process_that_a_freeze_does_not_stop_is_inconclusive(run_chaos: RunChaos) -> None:
    ran = run_chaos(one('proxy_failure(how="freeze", for_="1s")'), behaviour=FakeBehaviour(harmless=True))

    inconclusive_with(ran, "the fault did not land*; signs of it: none")


def test_one_sign_is_not_enough(run_chaos: RunChaos) -> None:
    ran = run_chaos(one("controller_failure"), behaviour=replace(SOON_GIVEN_UP, blind_gcs=True))

    inconclusive_with(ran, "the fault did not land within *; signs of it: the process of controller (PID *) is gone")


class NodesSeenFromOutside(FakeNodes):
    """Nobody can look at what becomes of a node itself."""

    def kill_node(self, name: str, *, how: Literal["kill", "stop"], hold: bool) -> Sequence[Evidence]:
        return [replace(sign, side="cluster") for sign in super().kill_node(name, how=how, hold=hold)]


class SeenFromOutside(FakeCluster):
    def offers(self) -> tuple[Offer, ...]:
        return (*super().offers(), KILLS_NODES.by(NodesSeenFromOutside(self.world)))


def test_two_signs_from_one_side_are_not_enough(run_chaos: RunChaos) -> None:
    ran = run_chaos(one("worker_failure"), cluster=SeenFromOutside)

    inconclusive_with(ran, "the fault did not land*; signs of it: no process of worker-* is left")


def test_a_victim_that_answered_nothing_is_inconclusive(run_chaos: RunChaos) -> None:
    ran = run_chaos(one("replica_failure"), behaviour=FakeBehaviour(anonymous=True))

    inconclusive_with(ran, "*answered nothing before the fault, so nothing was tested")


def test_too_few_requests_break_nothing(run_chaos: RunChaos) -> None:
    ran = run_chaos(one("head_failure", 'availability=0.999, window="2s"'))

    inconclusive_with(ran, "32 requests in a window of 2 s cannot show an availability of 99.9 %: that takes 3000*")
    (cluster,) = ran.backend.clusters
    assert cluster.world.log == [], "something was broken for nothing"


def test_a_late_generator_is_inconclusive(run_chaos: RunChaos) -> None:
    ran = run_chaos(one("controller_failure"), "--serve-chaos-send-lag-limit=0.001ms")

    inconclusive_with(ran, "the load generator was late: 1 % of its requests were sent*")


def test_no_steady_state_breaks_nothing(run_chaos: RunChaos, monkeypatch: pytest.MonkeyPatch) -> None:
    # One look, when there is an answer: what it says is certain.
    wait_steady = steady.wait_steady

    def one_look(rig: Rig, sent: steady.Sent, *, timeout: float) -> tuple[Request, ...]:
        answered = clock.wait_until(
            "an answer", lambda: rig.history.requests or NotYet("none"), timeout=timeout, interval=0.01
        )
        began = SimpleNamespace(now=lambda: answered[0].scheduled, wait_until=clock.wait_until)
        monkeypatch.setattr(steady, "clock", began)
        return wait_steady(rig, sent, timeout=0.0)

    monkeypatch.setattr(load, "wait_steady", one_look)
    ran = run_chaos(
        """
        import pytest

        @pytest.mark.head_failure
        def test_it(experiment, serve_cluster):
            experiment.sending(url=f"{serve_cluster.url}nowhere", persistent_rate=0).run()
        """
    )

    inconclusive_with(ran, "no steady state: * requests lost in the last seconds, the last with HTTP 404*")
    ran.result.stdout.fnmatch_lines(["serve-chaos: no steady state: send one such request yourself*"])
    (cluster,) = ran.backend.clusters
    assert cluster.world.log == [], "something was broken for nothing"


# -- steady state ----------------------------------------------------------------------------------------------------


class SlowProxies(FakeProxies):
    """Each client waits for 1.2 s."""

    def wait(self, path: str) -> float:
        return 0.0 if path.startswith("/-/") else 1.2


class Slow(FakeCluster):
    proxies_class = SlowProxies


def test_a_slow_app_is_judged(run_chaos: RunChaos) -> None:
    run_chaos(one("replica_failure"), cluster=Slow).outcomes(passed=1)


class HangNowAndThen(FakeProxies):
    """One request in six is never answered."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._count = itertools.count()

    def wait(self, path: str) -> float:
        return math.inf if next(self._count) % 6 == 5 else 0.0


class SomeHang(FakeCluster):
    proxies_class = HangNowAndThen


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


class StallingProxies(FakeProxies):
    """When the head is lost nobody gets an answer for 1.5 s; then all who wait get theirs at once."""

    def wait(self, path: str) -> float:
        return 0.0 if self.world.struck is None else max(0.0, self.world.struck + 1.5 - clock.now())


class Stalls(FakeCluster):
    proxies_class = StallingProxies


def test_a_stall_that_is_answered_in_the_end_is_an_outage(run_chaos: RunChaos) -> None:
    ran = run_chaos(one("head_failure", 'availability=0.1, longest_outage="500ms", window="2s"'), cluster=Stalls)

    failed_with(ran, "the longest outage lasted 1.* Allowed: 0.5 s.")
    (result,) = cast("list[dict[str, dict[str, Json]]]", ran.summary["experiments"])
    # One that the head's proxy was about to answer goes down with it.
    assert result["measurement"]["lost_beyond_in_flight"] == 0


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
            heads = {part.pid for part in self.world.parts.of("proxy") if part.slot.node == HEAD}
        return {pid: frozen for pid, frozen in self.proxies.alive().items() if pid in heads}


def test_a_victim_that_only_probes_reached_is_pointed_out(run_chaos: RunChaos) -> None:
    ran = run_chaos(
        one('proxy_failure(on="worker-1")', f"{SHORT}, persistent_availability=None"), cluster=OnlyTheHeadIsAsked
    )

    ran.outcomes(passed=1)
    ran.result.stdout.fnmatch_lines(
        ["*note: only probes on persistent connections are known to have reached proxy on*"]
    )
