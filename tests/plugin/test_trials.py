"""A test that is run in trials: each has its own verdict, and the test has one."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.plugin.conftest import LOAD, RunChaos, junit_properties
from tests.plugin.test_interrupt import heed_interrupts

KILLED = """
import pytest

@pytest.mark.replica_failure
def test_it(experiment):
    experiment.run(window="300ms", availability=None, longest_outage="20s", settled=False)
"""

BY_HAND = """
import pytest

made, ended = [], []

@pytest.fixture(scope="module")
def shared():
    made.append("shared")
    yield
    ended.append("shared")

@pytest.fixture
def own(serve_cluster):
    made.append("own")
    yield
    ended.append("own")

{marker}
def test_it(shared, own):
    {body}

def test_that_comes_after(shared, serve_cluster):
    assert made.count("shared") == 1 and "shared" not in ended
    assert made.count("own") == ended.count("own") == {runs}
"""


def test_each_trial_is_an_experiment_and_the_test_has_one_verdict(run_chaos: RunChaos) -> None:
    ran = run_chaos(KILLED, "--serve-chaos-trials=2", "--junit-xml=junit.xml")

    ran.outcomes(passed=1)
    ran.result.stdout.fnmatch_lines(
        [
            "*test_it: trial 1 of 2: passed; so far 0 of 1 failed: less than 95.0 % at 95 %",
            "*test_it: trial 2 of 2: passed; so far 0 of 2 failed: less than 77.6 % at 95 %",
            "trials *lost *outage*",
            "it *0 of 2 failed: less than 77.6 % at 95 %*",
        ]
    )
    trials = [one["trial"] for one in ran.summary["experiments"]]  # type: ignore[union-attr,index,call-overload]
    assert [(one["of"], one["number"], one["outcome"]) for one in trials] == [("it", 1, "passed"), ("it", 2, "passed")]  # type: ignore[index,call-overload]
    assert ("serve_chaos_trials", "0 of 2 failed: less than 77.6 % at 95 %") in junit_properties(ran)


def test_a_failed_trial_ends_the_test_and_shows_its_reasons(run_chaos: RunChaos) -> None:
    test = BY_HAND.format(
        marker="@pytest.mark.serve_chaos(trials=5)", body="assert made.count('own') < 2, 'no luck'", runs=2
    )
    ran = run_chaos(test)

    ran.outcomes(failed=1, passed=1)
    assert "AssertionError: no luck" in ran.text
    rate = "1 of 2 failed: more than 2.5 % and less than 97.5 %, each at 95 %"
    assert f"test_it: failed: {rate}; 3 more trials could not change that" in ran.text


def test_a_failure_that_is_allowed_leaves_the_test_green(run_chaos: RunChaos) -> None:
    marker = "@pytest.mark.serve_chaos(trials=3, allow_failed=1)"
    ran = run_chaos(BY_HAND.format(marker=marker, body="assert made.count('own') != 1", runs=3))

    ran.outcomes(passed=2)
    assert "test_it: passed: 1 of 3 failed" in ran.text


def test_too_many_trials_that_show_nothing_make_the_test_inconclusive(run_chaos: RunChaos) -> None:
    body = "from pytest_serve_chaos import Inconclusive; raise Inconclusive('nothing was seen')"
    ran = run_chaos(BY_HAND.format(marker="@pytest.mark.serve_chaos(trials=3)", body=body, runs=1))

    ran.outcomes(inconclusive=1, passed=1)


def test_a_trial_that_measured_nothing_counts_for_nothing_whatever_the_test_says(run_chaos: RunChaos) -> None:
    test = """
    import pytest

    @pytest.mark.replica_failure
    def test_it(experiment):
        experiment.measure(window="300ms")  # too few requests for its demands
    """
    ran = run_chaos(test, "--serve-chaos-trials=3")

    ran.outcomes(inconclusive=1)
    assert "test_it: inconclusive: no trial of 1 showed anything" in ran.text


def test_trials_have_one_row_though_the_first_one_ended_before_its_experiment(run_chaos: RunChaos) -> None:
    test = """
    import pytest
    from pytest_serve_chaos import Inconclusive

    made = []

    @pytest.mark.replica_failure
    def test_it(experiment):
        made.append(1)
        if len(made) == 1:
            raise Inconclusive("not yet")
        experiment.run(window="300ms", availability=None, longest_outage="20s", settled=False)
    """
    ran = run_chaos(test, "--serve-chaos-trials=4")

    ran.outcomes(passed=1)
    ran.result.stdout.fnmatch_lines(["trials *", "it-2 *0 of 3 failed: *"])


def test_a_known_defect_stays_one(run_chaos: RunChaos) -> None:
    marker = "@pytest.mark.xfail(raises=AssertionError)\n@pytest.mark.serve_chaos(trials=3)"
    ran = run_chaos(BY_HAND.format(marker=marker, body="assert False", runs=1))

    ran.outcomes(xfailed=1, passed=1)


def test_a_broken_fixture_ends_the_trials(run_chaos: RunChaos) -> None:
    ran = run_chaos(
        """
        import pytest

        @pytest.fixture
        def broken(serve_cluster):
            raise RuntimeError("broken")

        def test_it(broken):
            pass
        """,
        "--serve-chaos-trials=3",
    )

    ran.outcomes(errors=1)
    assert "trial 1 of 3" not in ran.text


def test_the_first_test_that_fails_ends_the_run_if_pytest_is_told_so(run_chaos: RunChaos) -> None:
    ran = run_chaos(BY_HAND.format(marker="@pytest.mark.serve_chaos(trials=3)", body="assert False", runs=1), "-x")

    ran.outcomes(failed=1)


def test_a_run_that_is_ended_before_there_is_a_verdict_does_not_pass(run_chaos: RunChaos) -> None:
    body = "import os; request.session.shouldstop = 'enough' if made.count('own') == 2 else False"
    source = BY_HAND.format(marker="@pytest.mark.serve_chaos(trials=9)", body=body, runs=2)
    ran = run_chaos(source.replace("def test_it(", "def test_it(request, "))

    ran.outcomes(inconclusive=1)
    assert (
        "test_it: inconclusive: 0 of 2 failed: less than 77.6 % at 95 %; the run ends before the other 7 trials"
        in ran.text
    )


def test_what_is_shared_and_cannot_be_torn_down_is_an_error_of_the_last_test(run_chaos: RunChaos) -> None:
    ran = run_chaos(
        """
        import pytest

        @pytest.fixture(scope="module")
        def shared():
            yield
            raise RuntimeError("not torn down")

        def test_it(shared, serve_cluster):
            pass
        """,
        "--serve-chaos-trials=2",
    )

    ran.outcomes(passed=1, errors=1)


@pytest.mark.parametrize("said", ["trials=0", "trials='2'", "trials=2, allow_failed=2", "trial=2"])
def test_a_marker_that_cannot_be_used_is_refused_before_a_cluster_exists(run_chaos: RunChaos, said: str) -> None:
    ran = run_chaos(BY_HAND.format(marker=f"@pytest.mark.serve_chaos({said})", body="pass", runs=0))

    assert ran.result.ret == pytest.ExitCode.USAGE_ERROR
    assert not ran.backend.clusters


def test_each_trial_chooses_again_and_the_first_one_as_without_trials(run_chaos: RunChaos) -> None:
    test = """
    def test_it(serve_cluster):
        print("\\nCHOICE", serve_cluster._rig.run.random.random())
    """
    chosen = {}
    for trials in (1, 3):
        ran = run_chaos(test, f"--serve-chaos-trials={trials}", "--serve-chaos-seed=3", "-s")
        chosen[trials] = [line for line in ran.text.splitlines() if line.startswith("CHOICE")]

    assert len(set(chosen[3])) == 3
    assert chosen[1] == chosen[3][:1]


CONFTEST = """
from pytest_serve_chaos.testing import FakeBehaviour, FakeCluster

def pytest_serve_chaos_start_cluster(spec):
    return FakeCluster(spec, FakeBehaviour())
"""

INTERRUPTED = """
import os, signal, time

count = 0

def test_it(serve_cluster):
    global count
    count += 1
    if count == 3:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(60)
"""


def test_ctrl_c_in_a_trial_says_what_the_others_showed(
    pytester: pytest.Pytester, fake_is_importable: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(INTERRUPTED)
    command = [sys.executable, "-m", "pytest", "--serve-chaos", *LOAD, "--serve-chaos-trials=20"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, preexec_fn=heed_interrupts)

    assert ran.returncode == pytest.ExitCode.INTERRUPTED, ran.stdout
    assert "test_it: interrupted after 2 of 20 trials: 0 of 2 failed: less than 77.6 % at 95 %" in ran.stdout
