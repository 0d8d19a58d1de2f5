"""A fault of a third party: one module and the hook, as the page about it shows."""

from __future__ import annotations

import re

import pytest

from pytest_serve_chaos.cluster.capabilities import SIGNALS_PROCESSES, Offer
from pytest_serve_chaos.events import Demanded, of_kind
from pytest_serve_chaos.history import History
from pytest_serve_chaos.testing import FakeBehaviour, FakeCluster
from tests.plugin.conftest import ROOT, Ran, RunChaos
from tests.plugin.test_external import ExternalFake, HasOneReplica

PAGE = ROOT / "docs" / "add-a-fault.md"
FILES: dict[str, str] = dict(re.findall(r"(?ms)^```python\n# (\w+\.py)\n(.*?)^```$", PAGE.read_text()))
TEST = FILES["test_pauses.py"]
QUICK = TEST.replace("experiment.run()", 'experiment.run(window="1s")')


@pytest.fixture(autouse=True)
def example(pytester: pytest.Pytester) -> dict[str, str]:
    """The files of the page, in a directory of their own."""
    for name in ("replicas_pause.py", "conftest.py"):
        (pytester.path / name).write_text(FILES[name])
    return FILES


def rewrite(pytester: pytest.Pytester, old: str, new: str) -> None:
    """Changes the module of the example."""
    module = pytester.path / "replicas_pause.py"
    source = module.read_text()
    assert old in source
    module.write_text(source.replace(old, new))


def events(ran: Ran, kind: str) -> list[str]:
    """What happened of that kind."""
    history = History.load(ran.directory / "history.jsonl")
    return [event.text for event in history.events if event.kind == kind]


def test_the_page_has_all_of_it() -> None:
    assert list(FILES) == [
        "replicas_pause.py", "conftest.py", "test_pauses.py", "test_conformance.py", "test_replicas_pause.py",
    ]  # fmt: skip


def test_it_conforms(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(pytester.path)
    for name in ("test_conformance.py", "test_replicas_pause.py"):
        (pytester.path / name).write_text(FILES[name])

    pytester.runpytest_inprocess().assert_outcomes(passed=14)


def test_it_passes_when_it_has_landed_and_is_healed(run_chaos: RunChaos) -> None:
    ran = run_chaos(QUICK)

    ran.outcomes(passed=1)
    assert events(ran, "asked") == ["SIGSTOP to 2 replicas"]
    assert events(ran, "healed") == ["healed: SIGSTOP to 2 replicas"]
    mine, the_clusters = events(ran, "evidence")
    assert mine == "2 processes are stopped (state T)"
    assert "answered by" in the_clusters
    (demanded,) = of_kind(Demanded, History.load(ran.directory / "history.jsonl").events)
    demands = demanded.expectations
    assert (demands.longest_outage, demands.kept) == (20.0, ("head", "gcs", "controller", "replica"))
    (cluster,) = ran.backend.clusters
    assert not any(part.frozen for part in cluster.world.parts.values())


def test_it_is_inconclusive_when_it_does_nothing(run_chaos: RunChaos) -> None:
    ran = run_chaos(QUICK, behaviour=FakeBehaviour(harmless=True))

    ran.outcomes(inconclusive=1)
    ran.result.stdout.fnmatch_lines(["*the fault did not land*"])


def test_it_can_be_injected_by_hand(run_chaos: RunChaos) -> None:
    ran = run_chaos(
        """
        def test_by_hand(chaos, traffic):
            with traffic():
                with chaos.inject("replicas_pause", count=1, for_="60s") as paused:
                    assert paused.landed
                    assert [c.role for c in paused.fault.victims] == ["replica"]
        """
    )

    ran.outcomes(passed=1)
    assert events(ran, "healed") == ["healed: SIGSTOP to 1 replicas"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("counts=2", "@pytest.mark.replicas_pause has no keyword 'counts'*"),
        ("count=0", "Invalid count=0 in @pytest.mark.replicas_pause: it must be a whole number, 1 or more"),
        ("how='kill'", "Invalid how='kill' in @pytest.mark.replicas_pause: it must be one of stop"),
    ],
)
def test_what_its_marker_cannot_say_is_a_usage_error(run_chaos: RunChaos, given: str, message: str) -> None:
    ran = run_chaos(TEST.replace('count=2, for_="3s"', given))

    assert ran.result.ret == pytest.ExitCode.USAGE_ERROR
    ran.result.stderr.fnmatch_lines([f"*{message}"])


def test_a_cluster_that_lacks_what_it_needs_skips_it(run_chaos: RunChaos) -> None:
    class SendsNoSignals(FakeCluster):
        def offers(self) -> tuple[Offer, ...]:
            return tuple(offer for offer in super().offers() if offer.key is not SIGNALS_PROCESSES)

    ran = run_chaos(QUICK, "-rs", cluster=SendsNoSignals)

    ran.outcomes(skipped=1)
    ran.result.stdout.fnmatch_lines(["SKIPPED*the fake backend cannot send signals to processes"])


def test_on_an_external_cluster_the_policy_decides_by_what_it_says(run_chaos: RunChaos) -> None:
    run_chaos(QUICK, cluster=ExternalFake).outcomes(passed=1)


def test_on_an_external_cluster_it_does_not_take_the_only_replica(run_chaos: RunChaos) -> None:
    ran = run_chaos(QUICK, "-rs", cluster=HasOneReplica)

    ran.outcomes(skipped=1)
    ran.result.stdout.fnmatch_lines(["SKIPPED*sleepy_pid#SleepyPid has one replica, so losing it leaves none (allow_*"])


def test_a_fault_that_says_nothing_is_not_injected_there(run_chaos: RunChaos, pytester: pytest.Pytester) -> None:
    rewrite(pytester, "    external=touch,\n", "")
    ran = run_chaos(QUICK, "-rs", cluster=ExternalFake)

    ran.outcomes(skipped=1)
    ran.result.stdout.fnmatch_lines(["SKIPPED*replicas_pause does not say what it does to an external cluster*"])


def test_a_name_that_is_taken_is_a_usage_error(run_chaos: RunChaos, pytester: pytest.Pytester) -> None:
    rewrite(pytester, 'name="replicas_pause"', 'name="replica_failure"')
    ran = run_chaos(QUICK)

    assert ran.result.ret == pytest.ExitCode.USAGE_ERROR
    ran.result.stderr.fnmatch_lines(["*there are two faults with the name replica_failure*"])


def test_its_marker_is_known_without_the_option(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(TEST)

    pytester.runpytest_inprocess("--strict-markers").assert_outcomes(skipped=1)
    pytester.runpytest_inprocess("--markers").stdout.fnmatch_lines(
        [
            "@pytest.mark.replicas_pause(how, count, for_, allow_total_loss): the test breaks several replicas, which"
            " stand still for a while (how: stop)."
        ]
    )
