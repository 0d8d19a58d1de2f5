"""What a user sees of each outcome."""

from __future__ import annotations

import re
import shlex

import pytest

from tests.plugin.conftest import RunChaos
from tests.plugin.fake import FakeBackend, FakeBehaviour

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
            "E   *Inconclusive: head: inconclusive: the fault did not land within *",
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


def test_a_cluster_that_does_not_start_is_an_error(run_chaos: RunChaos) -> None:
    ran = run_chaos(HEAD, behaviour=FakeBehaviour(start_error="the raylet of worker-2 is missing"))

    ran.outcomes(errors=1)
    ran.result.stdout.fnmatch_lines(
        [
            "*ERROR at setup of test_head*",
            "E   *ClusterStartError: the raylet of worker-2 is missing",
            "E   Looked at:",
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
