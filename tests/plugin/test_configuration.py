"""The check of the configuration: said once for a cluster, before the first fault, and again in every report."""

from __future__ import annotations

from pytest_serve_chaos.analysis.configuration import Setup
from pytest_serve_chaos.model import Json
from pytest_serve_chaos.testing import FakeBehaviour
from tests.plugin.conftest import RunChaos

TWO_TESTS = """
    import pytest

    def test_a(serve_cluster): pass

    @pytest.mark.{fault}
    def test_b(experiment):
        result = experiment.measure(window="700ms", availability=0.7)
        assert [w.code for w in result.warnings] == {codes}
"""
FORGETS = "warning: Redis keeps nothing on disk: losing it restarts the head and every worker."
WEAK = FakeBehaviour(setup=Setup(redis_persists=False))


def test_a_weakness_is_said_once_before_anything_is_broken_and_in_the_reports(run_chaos: RunChaos) -> None:
    ran = run_chaos(TWO_TESTS.format(fault="replica_failure", codes=[]), behaviour=WEAK)

    ran.outcomes(passed=2)
    said = [line for line in ran.text.splitlines() if "Redis keeps nothing" in line]
    assert [line.partition(": ")[0] for line in said] == ["serve-chaos", "warning"]
    assert ran.text.index(said[0]) < ran.text.index("serve-chaos: inject")
    assert codes(ran.summary["warnings"]) == ["redis_forgets"]


def test_a_cluster_that_is_built_anew_says_nothing_new(run_chaos: RunChaos) -> None:
    ran = run_chaos(
        """
        import pytest

        def test_a(serve_cluster): pass

        @pytest.mark.serve_cluster(workers=3)
        def test_b(serve_cluster): pass
        """,
        behaviour=WEAK,
    )

    ran.outcomes(passed=2)
    assert ran.text.count(f"serve-chaos: {FORGETS[:30]}") == 1


def test_only_the_cluster_without_fault_tolerance_is_warned_about(run_chaos: RunChaos) -> None:
    ran = run_chaos(
        """
        import pytest

        def test_a(serve_cluster): pass

        @pytest.mark.serve_cluster(gcs="none")
        @pytest.mark.replica_failure
        def test_b(experiment): assert not experiment.measure(window="700ms", availability=0.7).warnings
        """
    )

    ran.outcomes(passed=2)
    assert ran.text.count("no GCS fault tolerance: losing the head restarts every worker") == 2


def test_the_result_of_a_fault_has_what_was_said_of_it(run_chaos: RunChaos) -> None:
    ran = run_chaos(TWO_TESTS.format(fault="redis_failure", codes=["redis_forgets"]), behaviour=WEAK)

    ran.outcomes(passed=2)
    experiments = ran.summary["experiments"]
    assert isinstance(experiments, list)
    assert [codes(experiment["warnings"]) for experiment in experiments if isinstance(experiment, dict)] == [
        ["redis_forgets"]
    ]


def test_an_app_that_a_test_adds_is_looked_at_before_its_fault(run_chaos: RunChaos) -> None:
    ran = run_chaos(
        """
        import pytest

        SECOND = {"name": "second", "route_prefix": "/second", "import_path": "second:app"}
        FAULT = pytest.mark.replica_failure(deployment="sleepy_pid#SleepyPid")

        @FAULT
        def test_deploys(experiment, serve_cluster):
            serve_cluster.deploy(SECOND)
            serve_cluster.update("second#SleepyPid", num_replicas=1)
            result = experiment.measure(window="700ms", availability=0.7)
            assert [w.text for w in result.warnings] == ["second#SleepyPid has one replica"]

        @FAULT
        def test_next(experiment):
            assert not experiment.measure(window="700ms", availability=0.7).warnings
        """
    )

    ran.outcomes(passed=2)
    assert ran.text.count("serve-chaos: warning: second#SleepyPid has one replica") == 1
    assert ran.text.index("serve-chaos: warning: second") < ran.text.index("serve-chaos: inject")


def test_what_was_mended_since_is_not_what_foresaw_a_fault(run_chaos: RunChaos) -> None:
    ran = run_chaos(
        """
        from dataclasses import replace

        import pytest
        from pytest_serve_chaos.analysis.configuration import Setup

        @pytest.mark.redis_failure
        def test_mended(experiment, serve_cluster):
            cluster = serve_cluster.backend
            cluster.behaviour = replace(cluster.behaviour, setup=Setup(redis_persists=True))
            assert not experiment.measure(window="700ms", availability=0.7).warnings
        """,
        behaviour=WEAK,
    )

    ran.outcomes(passed=1)
    assert codes(ran.summary["warnings"]) == ["redis_forgets"]


def codes(warnings: Json) -> list[Json]:
    assert isinstance(warnings, list)
    return [warning["code"] for warning in warnings if isinstance(warning, dict)]
