"""A dry run: what each fault would do to the cluster that is there is printed, and nothing is changed."""

from __future__ import annotations

import re

import pytest

from pytest_serve_chaos.cluster.base import ClusterSpec
from pytest_serve_chaos.safety.journal import BY_HAND, journal_of
from pytest_serve_chaos.testing import FakeBehaviour, FakeCluster, FakeKubernetesCluster
from tests.plugin.conftest import Ran, RunChaos
from tests.plugin.test_external import ExternalFake, HasOneReplica, NothingMayRun
from tests.plugin.test_faults_of_plugins import FILES
from tests.unit.test_safety import unlocked

DRY = "--serve-chaos-dry-run"
ONE = """
    import pytest

    @pytest.mark.{fault}
    def test_it(experiment):
        experiment.run(availability=None, longest_outage=None, traffic_back="60s", window="700ms")
"""


def dump(cluster: FakeCluster) -> list[object]:
    """All that lives in a fake cluster, and what is held, wanted and known of it."""
    world = cluster.world
    parts = [(str(p.slot), p.pid, p.frozen, p.child, p.child_frozen) for p in world.parts.values()]
    return [sorted(parts), sorted(world.held), dict(world.plan.config), world.struck, world.log]


class Dumped(FakeKubernetesCluster):
    """A cluster that remembers what it was when it started."""

    def __init__(self, spec: ClusterSpec, behaviour: FakeBehaviour | None = None) -> None:
        super().__init__(spec, behaviour)
        self.components()
        self.at_first = dump(self)


def plan_of(ran: Ran) -> dict[str, list[str]]:
    """What the only plan says: the name of a row -> its lines."""
    rows: dict[str, list[str]] = {}
    name = ""
    for line in ran.text.partition("plan of ")[2].splitlines()[1:]:
        found = re.fullmatch(r"  (.{8}) (.+)", line)
        if found is None:
            break
        name = found[1].strip() or name
        rows.setdefault(name, []).append(found[2])
    return rows


@pytest.mark.parametrize(
    "fault",
    [
        "head_failure", 'head_failure(hold=True, for_="9s")', 'worker_failure(how="stop")', 'node_failure(how="drain")',
        "controller_failure", 'controller_failure(replacement="new_actor")', 'replica_failure(how="freeze")',
        "child_failure", 'proxy_failure(by="ray")', "raylet_failure", "gcs_failure", "redis_failure",
        "health_check_failure", "app_update", "rayservice_upgrade",
    ],
)  # fmt: skip
def test_a_fault_is_shown_and_nothing_is_changed(run_chaos: RunChaos, fault: str) -> None:
    ran = run_chaos(ONE.format(fault=fault), DRY, cluster=Dumped)

    ran.outcomes(skipped=1)
    plan = plan_of(ran)
    assert list(plan) == ["fault", "victim", "change", "rights", "allowed", "undo", "healed"]
    assert plan["allowed"] == ["yes"]
    (cluster,) = ran.backend.clusters
    assert isinstance(cluster, Dumped)
    assert dump(cluster) == cluster.at_first
    assert cluster.machines.calls == []
    assert cluster.closed


def test_the_plan_says_who_is_hit_by_which_calls(run_chaos: RunChaos) -> None:
    ran = run_chaos(ONE.format(fault='worker_failure(which="worker-2", hold=True, for_="9s")'), DRY)

    plan = plan_of(ran)
    assert plan["fault"][0].startswith("worker_failure(how='kill', which='worker-2', hold=True, for_=9.0): SIGKILL to")
    assert {"worker-2", "proxy on worker-2"} < {line.partition(" (")[0] for line in plan["victim"]}
    assert plan["change"] == ["KillsNodes.kill_node(name='worker-2', how='kill', hold=True)"]
    assert plan["healed"] == ["9 s after the fault"]


def test_each_of_several_signals_is_shown(run_chaos: RunChaos, pytester: pytest.Pytester) -> None:
    for name in ("replicas_pause.py", "conftest.py"):
        (pytester.path / name).write_text(FILES[name])
    ran = run_chaos(FILES["test_pauses.py"], DRY)

    plan = plan_of(ran)
    assert len(plan["victim"]) == len(plan["change"]) == 2
    assert all(re.fullmatch(r"SignalsProcesses\.signal_process\(.*signal=SIGSTOP\b.*", line) for line in plan["change"])
    (cluster,) = ran.backend.clusters
    assert cluster.world.struck is None


def test_a_fault_that_does_not_say_how_it_changes_things_is_not_called(
    run_chaos: RunChaos, pytester: pytest.Pytester
) -> None:
    undeclared = FILES["replicas_pause.py"].replace("    dry_run=True,\n", "")
    first = '    """Chooses the victims'
    called = undeclared.replace(first, f'    raise AssertionError("called")\n{first}')
    assert called != undeclared != FILES["replicas_pause.py"]
    (pytester.path / "replicas_pause.py").write_text(called)
    (pytester.path / "conftest.py").write_text(FILES["conftest.py"])
    ran = run_chaos(FILES["test_pauses.py"], DRY)

    ran.outcomes(skipped=1)
    assert plan_of(ran)["change"][0].startswith("not shown: the fault does not say that all of it goes through")


def test_an_update_is_shown_by_what_it_changes_in_the_serve_config(run_chaos: RunChaos) -> None:
    ran = run_chaos(ONE.format(fault='app_update(change="num_replicas", to=5)'), DRY)

    first, *changes = plan_of(ran)["change"]
    assert first == "Cluster.apply_serve_config(config=<dict>)"
    assert [line.strip() for line in changes] == [
        'applications.sleepy_pid.deployments: nothing -> [{"name": "SleepyPid", "num_replicas": 5}]'
    ]


# -- no test is run ----------------------------------------------------------------------------------------------------


def test_neither_bodies_nor_fixtures_nor_hooks_of_tests_are_run(run_chaos: RunChaos, pytester: pytest.Pytester) -> None:
    pytester.makeconftest(
        """
        import pytest
        from pathlib import Path

        @pytest.fixture(scope="session", autouse=True)
        def database():
            Path("fixture").touch()

        def pytest_runtest_setup():
            Path("hook").touch()
        """
    )
    ran = run_chaos(
        """
        import pytest
        from pathlib import Path

        def setup_module():
            Path("module").touch()

        def test_by_hand(chaos, serve_cluster):
            Path("body").touch()
            chaos.custom(lambda: Path("custom").touch(), lambda: None, lambda: None).inject()
            serve_cluster.update("sleepy_pid#SleepyPid", num_replicas=1)

        def test_asks_later(request):
            request.getfixturevalue("chaos").head.kill()

        def test_of_somebody_else():
            Path("body").touch()

        @pytest.mark.skip(reason="not now")
        @pytest.mark.head_failure
        def test_skipped(experiment):
            experiment.run()
        """,
        DRY,
        "-rs",
    )

    ran.outcomes(skipped=4)
    left = {path.name for path in ran.path.iterdir()}
    assert not left & {"fixture", "hook", "module", "body", "custom"}
    assert ran.text.count("plan of ") == 1
    assert list(plan_of(ran)) == ["by hand"]
    reasons = ["SKIPPED*not now", "SKIPPED*dry run: it uses no fixture of pytest-serve-chaos"]
    ran.result.stdout.fnmatch_lines_random(reasons)
    (cluster,) = ran.backend.clusters
    assert cluster.world.struck is None


def test_a_marked_test_that_breaks_by_hand_shows_its_marker_and_says_that_the_rest_is_not_shown(
    run_chaos: RunChaos,
) -> None:
    ran = run_chaos(
        """
        import pytest

        @pytest.mark.head_failure
        def test_it(chaos):
            chaos.head.kill()
        """,
        DRY,
    )

    assert plan_of(ran)["change"] == ["KillsNodes.kill_node(name='head', how='kill', hold=False)"]
    assert plan_of(ran)["by hand"][0].startswith("not shown")


def test_a_fault_that_hits_nothing_is_an_error(run_chaos: RunChaos) -> None:
    ran = run_chaos(ONE.format(fault='child_failure(name="nobody")'), DRY)

    ran.outcomes(errors=1)
    ran.result.stdout.fnmatch_lines(["*there is no process 'nobody' below*"])


# -- the seed ----------------------------------------------------------------------------------------------------------

CHOICES = """
    import pytest

    @pytest.mark.replica_failure
    def test_one(experiment):
        experiment.measure(availability=None, longest_outage=None, traffic_back="60s", window="700ms")

    @pytest.mark.worker_failure(which="random")
    def test_two(experiment):
        experiment.measure(availability=None, longest_outage=None, traffic_back="60s", window="700ms")
"""


def chosen(ran: Ran) -> list[str]:
    """The victims that were chosen by the seed, in order."""
    return re.findall(r"chose (.+) of \d+ by the seed", ran.text)


@pytest.mark.parametrize("seed", [1, 2])
def test_the_victims_are_those_of_the_run_that_is_not_dry(run_chaos: RunChaos, seed: int) -> None:
    given = (f"--serve-chaos-seed={seed}", "-k", "one")

    assert chosen(run_chaos(CHOICES, *given)) == chosen(run_chaos(CHOICES, *given, DRY))


def test_a_test_chooses_the_same_victim_whatever_is_run_before_it(run_chaos: RunChaos) -> None:
    all_of_it, alone = (run_chaos(CHOICES, DRY, "--serve-chaos-seed=3", "-k", names) for names in ("one or two", "two"))

    assert chosen(all_of_it)[1:] == chosen(alone)
    assert len(chosen(alone)) == 1


# -- an external cluster -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "cluster", "reason"),
    [
        ("replica_failure", HasOneReplica, "no: sleepy_pid#SleepyPid has one replica, so losing it leaves none*"),
        ("head_failure", NothingMayRun, "no: this user may not get pods/exec, create pods/exec*"),
        ("node_failure", ExternalFake, "no: how='kill' needs the machines under a cluster of your own*"),
        ("redis_failure", ExternalFake, "no: Redis does not belong to the RayService, so it is left alone"),
    ],
)
def test_what_the_policy_refuses_is_shown_with_its_reason(
    run_chaos: RunChaos, fault: str, cluster: type[FakeCluster], reason: str
) -> None:
    ran = run_chaos(ONE.format(fault=fault), DRY, "-rs", cluster=cluster)

    ran.outcomes(skipped=1)
    (said,) = plan_of(ran)["allowed"]
    assert re.fullmatch(re.escape(reason).replace(r"\*", ".*"), said)
    assert "change" not in plan_of(ran)
    ran.result.stdout.fnmatch_lines([f"SKIPPED*{said.removeprefix('no: ')}"])


def test_what_an_earlier_run_left_is_shown_and_not_undone(run_chaos: RunChaos, pytester: pytest.Pytester) -> None:
    journal = journal_of(pytester.path / ".serve-chaos")
    entry = unlocked(journal.write(BY_HAND, "the switch of an earlier run", command="switch on"))
    ran = run_chaos(ONE.format(fault="replica_failure"), DRY)

    ran.result.stdout.fnmatch_lines(["*a run that is not dry would first undo: the switch of an earlier run"])
    assert entry.exists()
