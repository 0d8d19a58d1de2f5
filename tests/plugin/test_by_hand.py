from __future__ import annotations

from dataclasses import replace

from pytest_serve_chaos.testing import QUICK, FakeBehaviour
from tests.plugin.conftest import RunChaos


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
    ran.result.stdout.fnmatch_lines(["*no fault was asked for*"])


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
    ran.result.stdout.fnmatch_lines(["SKIPPED [[]1] test_a_fault_*.py:3: this cluster has no Redis"])


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
