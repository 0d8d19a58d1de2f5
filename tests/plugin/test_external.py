"""On somebody else's cluster: what its owner forbids is skipped, its config stays, and the final check does without."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from pytest_serve_chaos.events import ComponentGone, Moment, Settled, TopologySeen
from pytest_serve_chaos.history import ExperimentLog, History
from pytest_serve_chaos.observe import external_check
from pytest_serve_chaos.testing import QUICK, FakeBehaviour, FakeCluster
from tests.plugin.conftest import RunChaos
from tests.plugin.external_fakes import ExternalFake, HasOneReplica, LedElsewhere, NothingMayRun

ONE = """
    import pytest

    @pytest.mark.{fault}
    def test_it(experiment):
        experiment.run(availability=0.7, window="700ms")
"""


def test_the_post_recovery_check_replaces_replicas_when_nobody_counts_any_more(run_chaos: RunChaos) -> None:
    ran = run_chaos(ONE.format(fault="head_failure"), cluster=ExternalFake)

    ran.outcomes(passed=1)
    (cluster,) = ran.backend.clusters
    assert "canary" not in json.dumps(cluster.serve_config)
    log = ExperimentLog(History.load(ran.directory / "history.jsonl"), "it")
    after = next(e.at for e in log.of(TopologySeen) if e.moment is Moment.AFTER)
    (settled,) = log.of(Settled)
    assert settled.text.startswith("a new replica was served by all 3 proxies")
    assert settled.at > after
    replaced = [e for e in log.of(ComponentGone) if e.component.role == "replica"]
    assert [e.component.node for e in replaced] == ["worker-1", "worker-2"]
    assert all(e.at > after for e in replaced)


def test_deaf_proxies_are_found_and_replaced(run_chaos: RunChaos, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(external_check, "HEARS_WITHIN", 0.5)
    fault = 'controller_failure(replacement="new_actor")'
    ran = run_chaos(ONE.format(fault=fault), behaviour=FakeBehaviour(stale_proxies=True), cluster=ExternalFake)

    ran.outcomes(failed=1)
    ran.result.stdout.fnmatch_lines(["*3 of 3 proxies do not hear the controller: a new replica was not served by*"])
    assert ran.text.count("which does not hear the new controller") == 3


def test_without_a_word_who_answered_nothing_is_claimed(run_chaos: RunChaos) -> None:
    ran = run_chaos(ONE.format(fault="head_failure"), behaviour=FakeBehaviour(anonymous=True), cluster=ExternalFake)

    ran.outcomes(inconclusive=1)
    ran.result.stdout.fnmatch_lines(
        ["*the post-recovery check cannot be judged: the answers do not name their replica*"]
    )


def test_answers_of_another_clusters_replicas_are_no_steady_state(run_chaos: RunChaos) -> None:
    # A busy machine may have no answer in the last second.
    patient = FakeBehaviour(waits=replace(QUICK, steady_within=15.0, stable_for=10.0))
    slowly = ("--serve-chaos-rate=3", "--serve-chaos-persistent-rate=1")  # so that a busy machine answers, too
    source = ONE.format(fault="replica_failure").replace("700ms", "10s")
    ran = run_chaos(source, *slowly, behaviour=patient, cluster=LedElsewhere)

    ran.outcomes(inconclusive=1)
    ran.result.stdout.fnmatch_lines(["*answers come from replicas that are not of this cluster: see --serve-chaos-url"])
    events = History.load(ran.directory / "history.jsonl").of("it")
    assert not [e for e in events if e.kind == "asked"]


@pytest.mark.parametrize(
    ("fault", "cluster", "options", "reason"),
    [
        ("head_failure", ExternalFake, ["--serve-chaos-gcs=none"], "the RayService has no GCS fault tolerance*"),
        ("gcs_failure", ExternalFake, ["--serve-chaos-gcs=none"], "the RayService has no GCS fault tolerance*"),
        ("replica_failure", HasOneReplica, [], "sleepy_pid#SleepyPid has one replica, so losing it leaves none"),
        ("worker_failure", HasOneReplica, [], "sleepy_pid#SleepyPid has one replica, so losing it leaves none"),
        ("worker_failure", ExternalFake, ["--serve-chaos-workers=1"], "the RayService has 1 worker*"),
        ("head_failure", NothingMayRun, [], "this user may not get pods/exec, create pods/exec (SelfSubject*"),
        ("proxy_failure", NothingMayRun, [], "this user may not get pods/exec, create pods/exec (SelfSubject*"),
        ("node_failure", ExternalFake, [], "how='kill' needs the machines under a cluster of your own*"),
        ('node_failure(how="drain")', ExternalFake, [], "faults on nodes are not allowed: --serve-chaos-allow=node"),
        ("head_failure(hold=True)", ExternalFake, [], "KubeRay makes a new pod at once, so none can be kept down"),
        ("rayservice_upgrade", ExternalFake, [], "the plugin does not change the spec of an external RayService*"),
        ("redis_failure", ExternalFake, [], "Redis does not belong to the RayService, so it is left alone"),
        ("health_check_failure", ExternalFake, [], "the workers have no SERVE_CHAOS_FLAGS*"),
    ],
)
def test_what_must_not_be_broken_is_skipped_before_anything_is_sent(
    run_chaos: RunChaos, fault: str, cluster: type[FakeCluster], options: list[str], reason: str
) -> None:
    ran = run_chaos(ONE.format(fault=fault), "-rs", *options, cluster=cluster)

    ran.outcomes(skipped=1)
    ran.result.stdout.fnmatch_lines([f"SKIPPED * {reason}".replace("[", "[[]")])
    assert not History.load(ran.directory / "history.jsonl").requests


@pytest.mark.parametrize(
    ("fault", "cluster", "options", "reason"),
    [
        ("chaos.head.kill()", ExternalFake, ["--serve-chaos-gcs=none"], "the RayService has no GCS fault tolerance*"),
        ("chaos.head.freeze()", ExternalFake, ["--serve-chaos-gcs=none"], "the RayService has no GCS fault tolerance*"),
        ("chaos.head.kill(hold=True)", ExternalFake, [], "KubeRay makes a new pod at once*"),
        ("chaos.gcs.stop()", ExternalFake, ["--serve-chaos-gcs=none"], "the RayService has no GCS fault tolerance*"),
        ("chaos.worker().stop()", ExternalFake, ["--serve-chaos-workers=1"], "the RayService has 1 worker*"),
        ("chaos.worker().kill()", HasOneReplica, [], "sleepy_pid#SleepyPid has one replica, so losing it leaves none"),
        ("chaos.replica().kill()", HasOneReplica, [], "sleepy_pid#SleepyPid has one replica, so losing it leaves none"),
        ("chaos.replica().freeze()", HasOneReplica, [], "sleepy_pid#SleepyPid has one replica*"),
        ("chaos.replica().fail_health_check()", ExternalFake, [], "the workers have no SERVE_CHAOS_FLAGS*"),
        (
            "chaos.controller.kill()",
            NothingMayRun,
            [],
            "this user may not get pods/exec, create pods/exec (SelfSubject*",
        ),
        (
            "chaos.proxy().freeze()",
            NothingMayRun,
            [],
            "this user may not get pods/exec, create pods/exec (SelfSubject*",
        ),
        ("chaos.node().kill()", ExternalFake, [], "*how='drain' works here*"),
        ("chaos.node().freeze()", ExternalFake, [], "*how='drain' works here*"),
        ("chaos.redis.kill()", ExternalFake, [], "Redis does not belong to the RayService, so it is left alone"),
    ],
)
def test_what_must_not_be_broken_is_not_broken_by_hand_either(
    run_chaos: RunChaos, fault: str, cluster: type[FakeCluster], options: list[str], reason: str
) -> None:
    source = f"""
        def test_it(chaos, traffic):
            with traffic():
                {fault}
            raise AssertionError("it was broken")
    """
    ran = run_chaos(source, "-rs", *options, cluster=cluster)

    ran.outcomes(skipped=1)
    ran.result.stdout.fnmatch_lines([f"SKIPPED * {reason}".replace("[", "[[]")])
    events = History.load(ran.directory / "history.jsonl").events
    assert not [e for e in events if e.kind in ("asked", "gone")]


def test_a_marker_for_one_fault_does_not_admit_another_by_hand(run_chaos: RunChaos) -> None:
    source = """
        import pytest

        @pytest.mark.proxy_failure
        def test_it(chaos, traffic):
            with traffic():
                chaos.replica().kill()
    """
    ran = run_chaos(source, "-rs", cluster=HasOneReplica)

    ran.outcomes(skipped=1)
    ran.result.stdout.fnmatch_lines(["SKIPPED * sleepy_pid#SleepyPid has one replica, so losing it leaves none"])


def test_by_hand_the_head_is_taken_without_fault_tolerance_where_the_test_asks_for_that(run_chaos: RunChaos) -> None:
    source = """
        import pytest

        @pytest.mark.serve_cluster(gcs="none")
        def test_it(chaos, traffic):
            with traffic():
                assert chaos.head.kill().landed
    """
    ran = run_chaos(source, cluster=ExternalFake)

    ran.outcomes(passed=1)


def test_what_leaves_the_rest_standing_is_broken(run_chaos: RunChaos) -> None:
    ran = run_chaos(ONE.format(fault="proxy_failure"), cluster=HasOneReplica)

    ran.outcomes(passed=1)


def test_a_fault_without_fault_tolerance_is_measured_where_the_test_asks_for_that(run_chaos: RunChaos) -> None:
    source = """
        import pytest

        @pytest.mark.head_failure
        @pytest.mark.serve_cluster(gcs="none")
        def test_it(experiment):
            assert experiment.measure(availability=0.7, window="700ms").evidence
    """
    ran = run_chaos(source, cluster=ExternalFake)

    ran.outcomes(passed=1)


def test_a_test_that_changes_the_config_is_skipped(run_chaos: RunChaos) -> None:
    ran = run_chaos(
        'def test_it(serve_cluster): serve_cluster.update("sleepy_pid#SleepyPid", num_replicas=1)',
        "-rs",
        cluster=ExternalFake,
    )

    ran.outcomes(skipped=1)
    ran.result.stdout.fnmatch_lines(["SKIPPED * the Serve config is not ours to change"])
