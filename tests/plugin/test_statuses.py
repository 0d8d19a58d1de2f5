"""What a user sees of each outcome."""

from __future__ import annotations

import re
import shlex
import xml.etree.ElementTree as ElementTree

import pytest

from pytest_serve_chaos.cli import main
from pytest_serve_chaos.cluster.base import ClusterSpec
from pytest_serve_chaos.faults.rig import Rig
from pytest_serve_chaos.session import lending
from pytest_serve_chaos.testing import FakeBackend, FakeBehaviour, FakeCluster
from tests.plugin.conftest import Ran, RunChaos, junit_properties

HEAD = """
    import pytest

    @pytest.mark.head_failure
    def test_head(experiment):
        experiment.run(availability=0.7, longest_outage="500ms", window="700ms")
"""


def test_a_failure_shows_reasons_events_logs_and_how_to_repeat_it(run_chaos: RunChaos) -> None:
    ran = run_chaos(
        HEAD, "--serve-chaos-seed=42", "--serve-chaos-headers=X-Key: hush", behaviour=FakeBehaviour(outage=22)
    )

    ran.outcomes(failed=1)
    assert ran.result.ret == pytest.ExitCode.TESTS_FAILED
    ran.result.stdout.fnmatch_lines(
        [
            "*test_head _*",
            "test_a_failure_*.py:5: in test_head",
            "*experiment.run(availability=0.7, longest_outage=*",
            "E   *ExpectationFailed: head: failed: *",
            "E     the longest outage lasted *",
            "*- serve chaos: events -*",
            "Seconds from the fault:",
            "* asked  * SIGKILL to all processes of head",
            "* landed  * no process of head is left; *",
            "* came  * controller is there (PID *",
            "*- serve chaos: logs -*",
            "ERROR controller (PID *) died",
            "*- serve chaos: run it again -*",
            "pytest --serve-chaos --serve-chaos-seed=42 *--serve-chaos-rate=16 *::test_head",
            "*= serve chaos =*",
            "head * FAILED *",
            "report: *.serve-chaos/*",
            "FAILED *::test_head - head: failed: *",
        ]
    )
    assert "hush" not in ran.text
    assert "pytest_serve_chaos/experiment.py" not in ran.text, "the way through the plugin helps nobody"


def test_the_command_that_is_printed_does_the_same_again(run_chaos: RunChaos, pytester: pytest.Pytester) -> None:
    ran = run_chaos("def test_it(chaos):\n    chaos.replica().kill()\n    assert False", "--serve-chaos-workers", "3")
    again = ran.text.partition("serve chaos: run it again")[2].splitlines()[1]

    backend = FakeBackend()
    repeated = pytester.runpytest_inprocess(*shlex.split(again)[1:], plugins=[backend])

    def chosen(text: str) -> list[str]:
        return re.findall("serve-chaos: chose .*", text)

    assert chosen(repeated.stdout.str()) == chosen(ran.text) != []
    assert backend.clusters[0].spec == ran.backend.clusters[0].spec


def test_who_asks_for_a_long_traceback_gets_all_of_it(run_chaos: RunChaos) -> None:
    ran = run_chaos("def test_it(chaos):\n    chaos.worker('worker-9').kill()", "--tb=long")

    ran.outcomes(errors=1)
    ran.result.stdout.fnmatch_lines(["*def choose_worker(*", "*NoSuchTarget: there is no worker 'worker-9' to break*"])


def test_inconclusive_is_neither_a_pass_nor_a_failure(run_chaos: RunChaos) -> None:
    ran = run_chaos(HEAD, "-rA", behaviour=FakeBehaviour(harmless=True))

    ran.outcomes(inconclusive=1)
    assert ran.result.ret == pytest.ExitCode.TESTS_FAILED
    ran.result.stdout.fnmatch_lines(
        [
            "[?] * [[]100%]",
            "*_ inconclusive: test_head _*",
            "E   *Inconclusive: head: inconclusive: the fault did not land*",
            "*- serve chaos: events -*",
            "head * INCONCLUSIVE *",
        ]
    )


def test_inconclusive_is_a_word_in_a_verbose_run(run_chaos: RunChaos) -> None:
    ran = run_chaos(HEAD, "-v", behaviour=FakeBehaviour(harmless=True))

    ran.result.stdout.fnmatch_lines(["*INCONCLUSIVE * [[]100%]"])


def test_who_expects_a_failure_does_not_expect_that_nothing_is_shown(run_chaos: RunChaos) -> None:
    xfail = HEAD.replace("@pytest.mark.head", "@pytest.mark.xfail(strict=True)\n    @pytest.mark.head")

    run_chaos(xfail, behaviour=FakeBehaviour(outage=22)).outcomes(xfailed=1)
    run_chaos(xfail, behaviour=FakeBehaviour(harmless=True)).outcomes(inconclusive=1)


XFAIL = """
    import pytest
    from pytest_serve_chaos.errors import ExpectationFailed, ServeChaosError

    @pytest.mark.xfail(strict=True{raises})
    @pytest.mark.{fault}
    def test_it(experiment):
        experiment.run(availability=0.7, window="700ms")
"""


@pytest.mark.parametrize("raises", ["", ", raises=ServeChaosError", ", raises=ExpectationFailed"])
def test_who_expects_a_failure_does_not_expect_that_the_cluster_never_starts(run_chaos: RunChaos, raises: str) -> None:
    behaviour = FakeBehaviour(start_error="the raylet of worker-2 is missing")
    ran = run_chaos(XFAIL.format(raises=raises, fault="head_failure"), behaviour=behaviour)

    ran.outcomes(errors=1)
    assert ran.result.ret == pytest.ExitCode.TESTS_FAILED
    ran.result.stdout.fnmatch_lines(["*ERROR at setup of test_it*", "E *the raylet of worker-2 is missing"])


@pytest.mark.parametrize("raises", ["", ", raises=ServeChaosError"])
def test_who_expects_a_failure_does_not_expect_that_the_rig_breaks(run_chaos: RunChaos, raises: str) -> None:
    ran = run_chaos(XFAIL.format(raises=raises, fault="worker_failure(which='gpu-1')"))

    ran.outcomes(errors=1)
    assert ran.result.ret == pytest.ExitCode.TESTS_FAILED
    ran.result.stdout.fnmatch_lines(["*ERROR at call of test_it*", "E *there is no worker 'gpu-1' to break"])


class Crashes(FakeCluster):
    """A backend with a defect of its own."""

    def __init__(self, spec: ClusterSpec, behaviour: FakeBehaviour | None = None) -> None:
        raise KeyError("docker0")


@pytest.mark.parametrize(
    "asks",
    ["def test_it(chaos): pass", "def test_it(request): request.getfixturevalue('chaos')"],
    ids=["argument", "getfixturevalue"],
)
def test_whatever_our_own_fixtures_raise_is_an_error(run_chaos: RunChaos, asks: str) -> None:
    ran = run_chaos(f"import pytest\n@pytest.mark.xfail(strict=True)\n{asks}", cluster=Crashes)

    ran.outcomes(errors=1)
    assert ran.result.ret == pytest.ExitCode.TESTS_FAILED
    ran.result.stdout.fnmatch_lines(["*KeyError: 'docker0'"])


def test_a_rig_that_breaks_when_the_test_is_over_is_an_error(
    run_chaos: RunChaos, monkeypatch: pytest.MonkeyPatch
) -> None:
    def restore(rig: Rig) -> str:
        raise KeyError("docker0")

    monkeypatch.setattr(lending, "restore", restore)
    ran = run_chaos("import pytest\n@pytest.mark.xfail(strict=True)\ndef test_it(chaos): assert False")

    ran.outcomes(xfailed=1, errors=1)
    ran.result.stdout.fnmatch_lines(["*ERROR at teardown of test_it*", "*KeyError: 'docker0'"])


def test_what_the_users_own_fixtures_raise_may_be_expected(run_chaos: RunChaos) -> None:
    ran = run_chaos(
        """
        import pytest

        @pytest.fixture
        def model(serve_cluster):
            raise KeyError("no such model")

        @pytest.mark.xfail(strict=True)
        def test_it(model): pass
        """
    )

    ran.outcomes(xfailed=1)


def test_an_assertion_that_must_fail_is_not_content_with_a_fault_that_did_nothing(run_chaos: RunChaos) -> None:
    source = """
        import pytest

        @pytest.mark.head_failure
        def test_it_must_fail(experiment):
            with pytest.raises(AssertionError):
                experiment.run(availability=0.7, longest_outage="500ms", window="700ms")
    """

    run_chaos(source, behaviour=FakeBehaviour(outage=22)).outcomes(passed=1)
    ran = run_chaos(source, behaviour=FakeBehaviour(harmless=True))
    ran.outcomes(inconclusive=1)
    assert ran.result.ret == pytest.ExitCode.TESTS_FAILED


# -- a figure that was not measured ------------------------------------------------------------------------------------

FIGURE = """
    import pytest

    {xfail}
    @pytest.mark.worker_failure
    def test_it(experiment):
        measured = experiment.measure(availability=0.7, window="1s")
        assert {condition}
"""
STRICT = "@pytest.mark.xfail(strict=True)"
COMPARES = "measured.longest_outage < 90"
SUBTRACTS = "1 - measured.availability < 0.5"


@pytest.mark.parametrize(
    ("xfail", "condition", "option"),
    [
        ("", COMPARES, "--tb=auto"),
        ("", COMPARES, "--tb=long"),
        ("", SUBTRACTS, "--tb=auto"),
        (STRICT, COMPARES, "--tb=auto"),
    ],
    ids=["compares", "compares-long", "subtracts", "xfail"],
)
def test_a_figure_that_was_not_measured_makes_its_test_inconclusive(
    run_chaos: RunChaos, xfail: str, condition: str, option: str
) -> None:
    source = FIGURE.format(xfail=xfail, condition=condition)
    ran = run_chaos(source, option, behaviour=FakeBehaviour(harmless=True))

    ran.outcomes(inconclusive=1)
    assert ran.result.ret == pytest.ExitCode.TESTS_FAILED
    ran.result.stdout.fnmatch_lines(
        [
            f"*assert {condition}",
            "E *Inconclusive: it: inconclusive: the fault did not land*; signs of it: none",
            "E * so a figure that the test uses was not measured: *NoneType*",
            "*- serve chaos: events -*",
        ]
    )


@pytest.mark.parametrize("condition", ["len(measured.settled) > 0", "None < 1"])
def test_a_mistake_of_the_test_stays_its_failure(run_chaos: RunChaos, condition: str) -> None:
    ran = run_chaos(FIGURE.format(xfail="", condition=condition))

    ran.outcomes(failed=1)
    ran.result.stdout.fnmatch_lines(["E *TypeError: *"])


def test_a_mistake_that_has_nothing_to_do_with_figures_stays_one(run_chaos: RunChaos) -> None:
    ran = run_chaos(FIGURE.format(xfail="", condition="1 < 'one'"), behaviour=FakeBehaviour(harmless=True))

    ran.outcomes(failed=1)
    ran.result.stdout.fnmatch_lines(["E *TypeError: '<' not supported between instances of 'int' and 'str'"])


def test_a_figure_of_somebody_else_is_compared_as_ever(run_chaos: RunChaos) -> None:
    ran = run_chaos(
        """
        import pytest

        @pytest.mark.worker_failure
        def test_measures(experiment):
            experiment.measure(availability=0.7, window="1s")

        def test_compares(chaos):
            assert None < 90
        """,
        behaviour=FakeBehaviour(harmless=True),
    )

    ran.outcomes(passed=1, failed=1)


def test_an_outage_that_was_foreseen_must_have_been_seen(run_chaos: RunChaos) -> None:
    ran = run_chaos(
        """
        import pytest

        @pytest.mark.worker_failure
        def test_no_outage_comes_as_a_surprise(experiment):
            result = experiment.measure()
            assert result.warnings
            assert result.passed or (result.outcome == "failed" and result.warnings), result.reasons
        """,
        behaviour=FakeBehaviour(harmless=True, replicas=1),
    )

    ran.outcomes(failed=1)
    ran.result.stdout.fnmatch_lines(["E *AssertionError: ('the fault did not land*"])


# -- which events are shown --------------------------------------------------------------------------------------------


def events_of(ran: Ran) -> str:
    """The section of the failed test."""
    return ran.text.partition("- serve chaos: events -")[2].partition("- serve chaos: logs -")[0]


def test_after_a_measurement_its_own_events_are_shown(run_chaos: RunChaos) -> None:
    ran = run_chaos(FIGURE.format(xfail="", condition="measured.lost == 77"))

    ran.outcomes(failed=1)
    assert re.search("asked .* SIGKILL to all processes of worker-", events_of(ran))


def test_after_a_measurement_what_is_broken_by_hand_is_shown(run_chaos: RunChaos) -> None:
    ran = run_chaos(
        """
        import pytest

        @pytest.mark.worker_failure
        def test_it(experiment, chaos):
            experiment.measure(availability=0.7, window="1s")
            chaos.controller.kill()
            assert False
        """
    )

    ran.outcomes(failed=1)
    assert re.search("asked .* SIGKILL to the controller", events_of(ran))
    assert "worker-" not in events_of(ran).partition("asked")[2].partition("\n")[0]


# -- a test that is run again ------------------------------------------------------------------------------------------


RUNS_AGAIN = """
    from _pytest.runner import runtestprotocol

    def pytest_runtest_protocol(item, nextitem):
        '''Runs a test that failed once again, as pytest-rerunfailures does.'''
        for last in (False, True):
            for report in runtestprotocol(item, log=False, nextitem=nextitem):
                again = report.failed and not last
                if again:
                    report.outcome = "rerun"
                item.ihook.pytest_runtest_logreport(report=report)
                if again:
                    item._initrequest()
                    break
            else:
                return True
"""
SECOND_TIME = """
    import pytest

    @pytest.mark.worker_failure
    def test_it(experiment, runs=[]):
        runs.append("one more")
        experiment.run(window="1s", availability=0.7 if len(runs) == 2 else 0.999)
"""


def test_a_test_that_is_run_again_is_what_it_was_last(run_chaos: RunChaos, pytester: pytest.Pytester) -> None:
    pytester.makeconftest(RUNS_AGAIN)
    ran = run_chaos(SECOND_TIME, "--junitxml=junit.xml")

    ran.outcomes(passed=1, rerun=1)
    assert ran.result.ret == pytest.ExitCode.OK
    ran.result.stdout.fnmatch_lines(["it * INCONCLUSIVE *", "it-2 * passed *"])
    assert [value for name, value in junit_properties(ran) if name == "serve_chaos_verdict"] == ["passed"]


RUNS_AGAIN_AND_REPORTS_BOTH = """
    from _pytest.runner import runtestprotocol

    def pytest_runtest_protocol(item, nextitem):
        '''Runs each test three times, and reports also how the first two ended, as pytest-rerunfailures 16 does.'''
        for last in (False, False, True):
            for report in runtestprotocol(item, log=False, nextitem=nextitem):
                if report.failed and not last:
                    report.outcome = "rerun"
                item.ihook.pytest_runtest_logreport(report=report)
            if not last:
                item._initrequest()
        return True
"""


def test_only_the_last_run_of_a_test_counts_in_each_report(
    run_chaos: RunChaos, pytester: pytest.Pytester, capsys: pytest.CaptureFixture[str]
) -> None:
    pytester.makeconftest(RUNS_AGAIN_AND_REPORTS_BOTH)
    ran = run_chaos(HEAD, "--junitxml=junit.xml", behaviour=FakeBehaviour(harmless=True))

    ran.outcomes(inconclusive=1, rerun=2)
    not_counted = "  note: the test was run again, so this experiment does not count"
    assert ran.text.count(not_counted) == 2
    ran.result.stdout.fnmatch_lines(["head * INCONCLUSIVE *", not_counted, "head-2 *", not_counted, "head-3 *"])
    experiments = ran.summary["experiments"]
    assert isinstance(experiments, list)
    assert [e["run_again"] for e in experiments if isinstance(e, dict)] == [True, True, False]
    properties = ElementTree.parse(ran.path / "junit.xml").getroot().iter("property")
    assert [p.get("value") for p in properties if p.get("name") == "serve_chaos_experiment"] == ["head-3"]
    capsys.readouterr()
    main(["analyse", str(ran.directory / "history.jsonl")])
    assert capsys.readouterr().out.count(not_counted) == 2


def test_a_history_passes_if_the_last_run_of_each_test_did(run_chaos: RunChaos, pytester: pytest.Pytester) -> None:
    pytester.makeconftest(RUNS_AGAIN)
    ran = run_chaos(SECOND_TIME)

    ran.outcomes(passed=1, rerun=1)
    assert main(["analyse", str(ran.directory / "history.jsonl")]) == 0


def test_a_test_that_breaks_its_rig_twice_is_one_error(run_chaos: RunChaos, pytester: pytest.Pytester) -> None:
    pytester.makeconftest(RUNS_AGAIN)
    ran = run_chaos(XFAIL.format(raises="", fault="worker_failure(which='gpu-1')"))

    ran.outcomes(errors=1, rerun=1)
    assert ran.text.count("- serve chaos: events -") == 1


# -- the cluster and the rig -------------------------------------------------------------------------------------------


def test_a_cluster_that_does_not_start_is_an_error(run_chaos: RunChaos) -> None:
    ran = run_chaos(HEAD, behaviour=FakeBehaviour(start_error="the raylet of worker-2 is missing"))

    ran.outcomes(errors=1)
    ran.result.stdout.fnmatch_lines(
        [
            "*ERROR at setup of test_head*",
            "E   *ClusterStartError: the raylet of worker-2 is missing",
            "E   Checked:",
            "E     - *.serve-chaos*",
            "ERROR *::test_head - the raylet of worker-2 is missing",
        ]
    )


def test_a_broken_rig_is_an_error_and_not_the_fault_of_the_app(run_chaos: RunChaos) -> None:
    ran = run_chaos(
        """
        def test_it(chaos, serve_cluster):
            chaos.head.kill(hold=True)
            serve_cluster.update("sleepy_pid#SleepyPid", num_replicas=3)
        """
    )

    ran.outcomes(errors=1)
    assert ran.result.ret == pytest.ExitCode.TESTS_FAILED
    ran.result.stdout.fnmatch_lines(
        [
            "E * [[]100%]",
            "*ERROR at call of test_it*",
            "*CommandFailed: the Serve config was not taken: *",
            "*SIGKILL to all processes of head, and it stays down",
        ]
    )


def test_an_assertion_of_the_test_itself_is_a_failure_with_events(run_chaos: RunChaos) -> None:
    ran = run_chaos("def test_it(chaos):\n    chaos.replica().kill()\n    assert 1 + 1 == 3")

    ran.outcomes(failed=1)
    ran.result.stdout.fnmatch_lines(
        ["E * assert (1 + 1) == 3", "*- serve chaos: events -*", "*SIGKILL to the replica*"]
    )


def test_tests_of_others_are_reported_as_ever(run_chaos: RunChaos) -> None:
    ran = run_chaos("def test_theirs():\n    assert not 'serve chaos'")

    ran.outcomes(failed=1)
    assert ran.backend.clusters == []
    assert "= serve chaos =" not in ran.text
    assert not (ran.path / ".serve-chaos").exists()
