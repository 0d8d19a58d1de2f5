"""What a test by hand may conclude: from its own traffic, from faults that landed, while all of it is counted."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pytest_serve_chaos import load
from pytest_serve_chaos.cluster.capabilities import SIGNALS_PROCESSES, Offer
from pytest_serve_chaos.model import Identity
from pytest_serve_chaos.testing import QUICK, FakeBehaviour, FakeCluster, FakeProcesses, FakeProxies, Reply
from tests.plugin.conftest import SOON_GIVEN_UP, RunChaos


def test_chaos_and_traffic_work_by_hand(run_chaos: RunChaos) -> None:
    ran = run_chaos(
        """
        import pytest

        @pytest.mark.controller_failure
        def test_traffic_outlives_the_controller(chaos, traffic):
            with traffic(rate=20) as requests, chaos.controller.kill(replacement="new_actor") as injection:
                injection.wait_traffic_back(timeout="10s")
                injection.wait_redundancy_back(timeout="60s")
                requests.assert_available(0.5, longest_outage="1s")
                injection.wait_settled()
            assert injection.replaced("controller") and injection.kept("replicas", "proxies")
        """
    )

    ran.outcomes(passed=1)


def test_faults_nest(run_chaos: RunChaos) -> None:
    ran = run_chaos(
        """
        import pytest

        @pytest.mark.head_failure
        def test_a_replica_dies_while_the_head_is_away(chaos, traffic):
            with traffic(), chaos.head.kill(hold=True) as head:
                replica = chaos.replica("SleepyPid", on="workers").kill()
                assert replica.still_missing_after("1s")
                head.heal()
                assert not replica.still_missing_after("20s")
                replica.wait_redundancy_back(timeout="60s")
        """
    )

    ran.outcomes(passed=1)


def test_what_ray_said_before_the_fault_does_not_count_as_recovery(
    run_chaos: RunChaos,
) -> None:
    ran = run_chaos(
        """
        def test_it(chaos):
            injection = chaos.replica().kill()
            injection.wait_redundancy_back()
            assert injection.rig.watcher.report.at > injection.asked
        """,
        behaviour=FakeBehaviour(back_after=0.0, waits=replace(QUICK, ask_every=1.0)),
    )

    ran.outcomes(passed=1)


def test_what_a_test_forgets_to_heal_is_healed(run_chaos: RunChaos) -> None:
    ran = run_chaos(
        """
        def test_forgets(chaos, serve_cluster):
            chaos.node("worker-1").kill()
            assert not serve_cluster.of("worker", on="worker-1")

        def test_next(serve_cluster):
            assert len(serve_cluster.of("worker")) == 2
            assert not serve_cluster.missing()
        """
    )

    ran.outcomes(passed=2)
    assert len(ran.backend.clusters) == 1


def test_an_app_that_a_test_adds_is_gone_afterwards(run_chaos: RunChaos) -> None:
    ran = run_chaos(
        """
        SECOND = {"name": "second", "route_prefix": "/second", "import_path": "second:app"}

        def test_deploys(serve_cluster, traffic):
            serve_cluster.deploy(SECOND)
            serve_cluster.update("second#SleepyPid", num_replicas=2)
            assert len(serve_cluster.of("replica", deployment="second#SleepyPid")) == 2
            with traffic(), traffic(rate=10, route="second", wait=False) as second:
                pass
            replicas = serve_cluster.of("replica", deployment="second#SleepyPid")
            assert second.answered_by() == {c.replica for c in replicas}

        def test_next(serve_cluster):
            assert {c.deployment for c in serve_cluster.of("replica")} == {"sleepy_pid#SleepyPid"}
            assert serve_cluster.spec.workers == 2
            assert serve_cluster.url.startswith("http://127.0.0.1:")
        """
    )

    ran.outcomes(passed=2)


def test_the_store_and_the_log_can_be_looked_into(run_chaos: RunChaos) -> None:
    ran = run_chaos(
        """
        import pytest

        def test_looks(serve_cluster, chaos):
            namespace, *keys = serve_cluster.redis_keys()
            assert keys and all(key.startswith(f"RAY{namespace}@") for key in keys)
            injection = chaos.replica().fail_health_check()
            assert serve_cluster.controller_log("Health check .* failed", since=injection.asked)

        @pytest.mark.serve_cluster(gcs="none")
        def test_has_no_store(serve_cluster):
            serve_cluster.redis_keys()
        """
    )

    ran.outcomes(passed=1, skipped=1)


def test_traffic_without_a_fault_proves_nothing(run_chaos: RunChaos) -> None:
    ran = run_chaos(
        """
        def test_nothing_breaks(traffic):
            with traffic() as requests:
                pass
            assert requests.lost == 0
            requests.assert_available(0.5)
        """
    )

    ran.outcomes(inconclusive=1)
    ran.result.stdout.fnmatch_lines(["*the test injected no fault*"])


def test_waiting_for_traffic_that_is_not_there_is_inconclusive(run_chaos: RunChaos) -> None:
    ran = run_chaos(
        """
        def test_no_traffic(chaos):
            chaos.controller.kill().wait_traffic_back(timeout="300ms")
        """
    )

    ran.outcomes(inconclusive=1)
    ran.result.stdout.fnmatch_lines(["*there is no traffic to come back*", "*inject inside `with traffic():`*"])


def test_a_fault_that_the_cluster_cannot_have_skips_the_test(run_chaos: RunChaos) -> None:
    ran = run_chaos(
        """
        import pytest

        @pytest.mark.serve_cluster(gcs="none")
        def test_needs_redis(chaos):
            chaos.redis.kill()
        """,
        "-rs",
    )

    ran.outcomes(skipped=1)
    ran.result.stdout.fnmatch_lines(["SKIPPED [[]1] test_a_fault_*.py:3: this cluster has no Redis, because *"])


def test_a_fault_of_redis_is_skipped_before_there_is_a_cluster_without_one(run_chaos: RunChaos) -> None:
    ran = run_chaos(
        """
        import pytest

        @pytest.mark.serve_cluster(gcs="rocksdb")
        @pytest.mark.redis_failure
        def test_needs_redis(experiment):
            experiment.run()
        """,
        "-rs",
    )

    ran.outcomes(skipped=1)
    ran.result.stdout.fnmatch_lines(["SKIPPED*this cluster has no Redis: its GCS keeps its state in RocksDB*"])
    ran.result.stdout.no_fnmatch_line("*serve-chaos: fake backend*")


def test_without_kept_connections_there_is_still_a_steady_state(run_chaos: RunChaos) -> None:
    ran = run_chaos(
        """
        def test_fresh_connections_only(traffic):
            with traffic() as requests:
                pass
            assert not [r for r in requests.requests if r.kept]
        """,
        "--serve-chaos-persistent-rate=0",
    )

    ran.outcomes(passed=1)


def test_answers_that_name_nobody_are_no_obstacle(run_chaos: RunChaos) -> None:
    ran = run_chaos(
        """
        def test_anonymous(traffic):
            with traffic() as requests:
                pass
            assert requests.answered_by() == frozenset()
        """,
        behaviour=FakeBehaviour(anonymous=True),
    )

    ran.outcomes(passed=1)


def test_what_is_broken_after_an_experiment_is_judged_on_its_own_traffic(run_chaos: RunChaos) -> None:
    ran = run_chaos(
        """
        import time
        import pytest
        from pytest_serve_chaos.errors import ExpectationFailed

        @pytest.mark.replica_failure
        def test_measures_and_goes_on_by_hand(experiment, chaos, traffic, serve_cluster):
            assert experiment.measure(availability=0.7, window="700ms").passed
            with traffic() as sound:
                chaos.replica().kill().wait_redundancy_back()
                time.sleep(0.7)
            sound.assert_available(0.7)
            world = serve_cluster.backend.world
            with traffic() as requests:
                injection = chaos.replica().kill()
                world.to_fail = 1000
                time.sleep(1.0)
                world.to_fail = 0
                injection.wait_redundancy_back()
            with pytest.raises(ExpectationFailed, match="the longest outage lasted"):
                requests.assert_available(0.5, longest_outage="500ms", window="700ms")
        """
    )

    ran.outcomes(passed=1)


def test_requests_that_hang_are_counted_while_traffic_still_runs(run_chaos: RunChaos) -> None:
    ran = run_chaos(
        """
        import time

        def test_a_third_hangs(chaos, traffic):
            with traffic(rate=30, timeout="900ms") as requests:
                chaos.proxy("worker-1").freeze(for_="2s")
                time.sleep(1.2)
                requests.assert_available(0.9)
        """
    )

    ran.outcomes(failed=1)
    ran.result.stdout.fnmatch_lines(["*requests lost in the * ReadTimeout*"])


class FirstSignal(FakeProcesses):
    """The first signal does its work; no later one does anything."""

    def signal_process(self, identity: Identity, signal: int, *, lasts: float | None = None) -> None:
        """Does it once."""
        if self.world.struck is None:
            super().signal_process(identity, signal)


class OnlyTheFirst(FakeCluster):
    def offers(self) -> tuple[Offer, ...]:
        return (*super().offers(), SIGNALS_PROCESSES.by(FirstSignal(self.world)))


def test_each_fault_must_land(run_chaos: RunChaos) -> None:
    ran = run_chaos(
        """
        import time

        def test_a_replica_dies_after_the_controller(chaos, traffic):
            with traffic() as requests:
                chaos.controller.kill().wait_redundancy_back()
                chaos.replica().kill()
            requests.assert_available(0.5)
        """,
        behaviour=SOON_GIVEN_UP,
        cluster=OnlyTheFirst,
    )

    ran.outcomes(inconclusive=1)
    ran.result.stdout.fnmatch_lines(["*NotLanded: the fault did not land*SIGKILL to the replica *"])


def test_a_fault_that_need_not_land_shows_nothing_itself(run_chaos: RunChaos) -> None:
    ran = run_chaos(
        """
        import time
        import pytest
        from pytest_serve_chaos.errors import Inconclusive

        def test_one_of_two_lands(chaos, traffic):
            with traffic() as requests:
                chaos.controller.kill().wait_redundancy_back()
                second = chaos.replica().kill(must_land=False)
                for ask in (second.wait_traffic_back, second.wait_redundancy_back, second.wait_settled):
                    with pytest.raises(Inconclusive, match="did not land"):
                        ask()
                time.sleep(0.7)
            assert not second.landed
            requests.assert_available(0.5)

        def test_none_lands(chaos, traffic):
            with traffic() as requests:
                chaos.replica().kill(must_land=False)
                time.sleep(0.7)
            requests.assert_available(0.5)
        """,
        behaviour=SOON_GIVEN_UP,
        cluster=OnlyTheFirst,
    )

    ran.outcomes(passed=1, inconclusive=1)
    ran.result.stdout.fnmatch_lines(["*Inconclusive: none_lands: inconclusive: *did not land*"])


class WithoutSecondApp(FakeProxies):
    """From the first fault on, an app at /second answers nothing."""

    def answer(self, pid: int, path: str) -> Reply:
        if path == "/second" and self.world.log:
            return Reply(503, "gone")
        return super().answer(pid, path)


class SecondAppFalls(FakeCluster):
    proxies_class = WithoutSecondApp


def test_each_traffic_is_judged_by_itself(run_chaos: RunChaos) -> None:
    ran = run_chaos(
        """
        import time
        import pytest
        from pytest_serve_chaos.errors import ExpectationFailed

        SECOND = {"name": "second", "route_prefix": "/second", "import_path": "second:app"}

        def test_two_apps(chaos, traffic, serve_cluster):
            serve_cluster.deploy(SECOND)
            with traffic() as first, traffic(route="second") as second:
                injection = chaos.replica("sleepy_pid#SleepyPid").kill()
                injection.wait_redundancy_back()
                assert injection.wait_traffic_back("5s") < 1
                time.sleep(0.4)
            first.assert_available(0.7)
            with pytest.raises(ExpectationFailed, match="HTTP 503"):
                second.assert_available(0.7)
        """,
        cluster=SecondAppFalls,
    )

    ran.outcomes(passed=1)


def test_traffic_that_begins_after_the_fault_proves_nothing(run_chaos: RunChaos) -> None:
    ran = run_chaos(
        """
        import time

        def test_looks_too_late(chaos, traffic):
            chaos.controller.kill().wait_redundancy_back()
            with traffic() as requests:
                time.sleep(0.7)
            requests.assert_available(0.5)
        """
    )

    ran.outcomes(inconclusive=1)
    ran.result.stdout.fnmatch_lines(["*the test injected no fault*"])


def test_a_test_that_idles_on_dilutes_nothing(run_chaos: RunChaos, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "_BY_HAND", replace(load._BY_HAND, window=1.0, longest_outage=None))
    ran = run_chaos(
        """
        import time

        def test_waits(chaos, traffic, serve_cluster):
            world = serve_cluster.backend.world
            with traffic() as requests:
                chaos.replica().kill()
                world.to_fail = 1000
                time.sleep(0.8)
                world.to_fail = 0
                time.sleep(4.0)
            assert requests.lost < 0.25 * len([r for r in requests.requests if not r.kept])
            requests.assert_available(0.7)
        """
    )

    ran.outcomes(failed=1)
    ran.result.stdout.fnmatch_lines(["*requests lost in the 1.* after the fault*Allowed: 30 % lost*"])


def test_successors_of_redis_and_of_nodes_are_seen(run_chaos: RunChaos) -> None:
    ran = run_chaos(
        """
        def test_looks(chaos):
            with chaos.worker("worker-1").kill(hold=True) as worker:
                assert worker.still_missing_after("700ms")
                worker.heal()
                assert not worker.still_missing_after("20s")
            assert not chaos.redis.kill().still_missing_after("20s")
        """
    )

    ran.outcomes(passed=1)


def test_nothing_is_said_of_nobody(run_chaos: RunChaos) -> None:
    ran = run_chaos(
        """
        import time
        import pytest
        from pytest_serve_chaos.errors import Inconclusive, SettingsError

        def test_asks(chaos, traffic):
            with traffic() as requests:
                injection = chaos.replica().kill()
                time.sleep(0.3)
            for ask in (injection.kept, injection.replaced):
                with pytest.raises(Inconclusive, match="no selector"):
                    ask()
                with pytest.raises(Inconclusive, match="there is nothing to compare"):
                    ask("worker", on="worker-9")
            with pytest.raises(SettingsError, match="window=0"):
                requests.assert_available(0.5, window=0)
            with pytest.raises(SettingsError, match="availability=0"):
                requests.assert_available(0)
        """
    )

    ran.outcomes(passed=1)
