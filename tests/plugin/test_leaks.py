"""Recovered, or only looks so: what the processes of a cluster use once all seems well."""

from __future__ import annotations

from typing import cast

import pytest

from pytest_serve_chaos import model
from pytest_serve_chaos.cluster.capabilities import SHOWS_USAGE
from pytest_serve_chaos.model import Json
from pytest_serve_chaos.testing import FakeBehaviour
from tests.plugin import conftest
from tests.plugin.conftest import LOAD, RunChaos

TEST = """
    import pytest

    @pytest.mark.controller_failure
    def test_it(experiment):
        experiment.run(availability=0.7, window="700ms", leaks=0, watch_for="2s")
"""


def test_replicas_that_leak_after_a_lost_controller_fail(run_chaos: RunChaos) -> None:
    ran = run_chaos(TEST, behaviour=FakeBehaviour(grows="after a fault"))

    ran.outcomes(failed=1)
    ran.result.stdout.fnmatch_lines(["*4 processes leak since the fault: replica *MiB of memory a minute*"])


def test_a_cluster_that_does_not_leak_passes(run_chaos: RunChaos) -> None:
    ran = run_chaos(TEST)

    ran.outcomes(passed=1)
    ran.result.stdout.fnmatch_lines(["*no leak since the fault: * processes watched for *"])
    assert '"watched": {' in (ran.directory / "summary.json").read_text()


def test_a_sampler_that_sees_nothing_is_inconclusive(run_chaos: RunChaos) -> None:
    ran = run_chaos(TEST, behaviour=FakeBehaviour(grows="unseen"))

    ran.outcomes(inconclusive=1)
    ran.result.stdout.fnmatch_lines(["*processes were seen 0 times after recovery*"])


def test_where_nobody_can_see_it_nothing_is_broken(run_chaos: RunChaos) -> None:
    ran = run_chaos(TEST, behaviour=FakeBehaviour(lacks=(SHOWS_USAGE,)))

    ran.outcomes(inconclusive=1)
    ran.result.stdout.fnmatch_lines(["*leaks=0 cannot be judged: the fake backend does not see what processes use*"])
    assert "Took" not in ran.text


def test_a_run_can_watch_all_its_experiments(run_chaos: RunChaos) -> None:
    source = TEST.replace(', leaks=0, watch_for="2s"', "")
    ran = run_chaos(source, "--serve-chaos-watch-for=2s", behaviour=FakeBehaviour(grows="after a fault"))

    ran.outcomes(passed=1)
    ran.result.stdout.fnmatch_lines(
        ["*2 s watched for leaks*", "*leaks since the fault, and leaks=0 would judge that: replica *"]
    )


def test_processes_are_watched_where_nobody_says_so_too(run_chaos: RunChaos, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conftest, "LOAD", [arg for arg in LOAD if "watch-for" not in arg])
    source = TEST.replace(', leaks=0, watch_for="2s"', "")
    ran = run_chaos(source)

    ran.outcomes(passed=1)
    assert "for leaks" not in ran.text  # nothing takes longer for it
    (experiment,) = cast("list[dict[str, Json]]", ran.summary["experiments"])
    watched = cast("dict[str, int]", experiment["watched"])
    assert watched["samples"] > 0
    assert watched["processes"] > 0


def test_a_cluster_that_cannot_show_it_is_not_remarked_on_where_nobody_asks(
    run_chaos: RunChaos, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conftest, "LOAD", [arg for arg in LOAD if "watch-for" not in arg])
    source = TEST.replace(', leaks=0, watch_for="2s"', "")
    ran = run_chaos(source, behaviour=FakeBehaviour(lacks=(SHOWS_USAGE,)))

    ran.outcomes(passed=1)
    assert "leaks were not looked for" not in ran.text


def test_turned_off_for_a_run_it_goes_on_where_a_test_demands_it(
    run_chaos: RunChaos, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = TEST.replace(', watch_for="2s"', "")
    monkeypatch.setattr(model, "LEAKS_SHOWN", 2.0)
    ran = run_chaos(source, "--serve-chaos-watch-for=0", behaviour=FakeBehaviour(grows="after a fault"))

    ran.outcomes(failed=1)
    ran.result.stdout.fnmatch_lines(["*4 processes leak since the fault: replica *"])


def test_where_nothing_is_demanded_and_nobody_can_see_it_a_remark_says_so(run_chaos: RunChaos) -> None:
    source = TEST.replace(", leaks=0", "")
    ran = run_chaos(source, behaviour=FakeBehaviour(lacks=(SHOWS_USAGE,)))

    ran.outcomes(passed=1)
    ran.result.stdout.fnmatch_lines(["*leaks were not looked for: the fake backend does not see what processes use*"])
    assert "watched for leaks" not in ran.text


def test_a_time_that_is_too_short_is_refused_before_anything_is_broken(run_chaos: RunChaos) -> None:
    ran = run_chaos(TEST.replace("2s", "100ms"))

    ran.outcomes(inconclusive=1)
    ran.result.stdout.fnmatch_lines(
        ["*watch_for=0.1 s cannot tell a leak from a warm-up, which takes 60 looks*watch for 1.2 s*"]
    )
