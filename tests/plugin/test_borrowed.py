"""On somebody else's cluster: what its owner forbids is skipped, its config stays, and the aftershock does without."""

from __future__ import annotations

import json

from pytest_serve_chaos.history import History
from tests.plugin.conftest import RunChaos
from tests.plugin.fake import FakeBehaviour
from tests.plugin.fake_borrowed import BorrowedFake, HeadIsForbidden

ONE = """
    import pytest

    @pytest.mark.{fault}
    def test_it(experiment):
        experiment.run(availability=0.7, window="500ms")
"""


def test_the_aftershock_replaces_replicas_when_nobody_counts_any_more(run_chaos: RunChaos) -> None:
    ran = run_chaos(ONE.format(fault="head_failure"), cluster=BorrowedFake)

    ran.outcomes(passed=1)
    (cluster,) = ran.backend.clusters
    assert "canary" not in json.dumps(cluster.serve_config)
    events = History.load(ran.directory / "history.jsonl").of("it")
    after = next(e.at for e in events if e.kind == "topology" and e.text == "after")
    (settled,) = [e for e in events if e.kind == "settled"]
    assert settled.text.startswith("a new replica was served by all 3 proxies")
    assert settled.at > after
    replaced = [e for e in events if e.kind == "gone" and e.data["role"] == "replica"]
    assert [e.data["node"] for e in replaced] == ["worker-1", "worker-2"]
    assert all(e.at > after for e in replaced)


def test_deaf_proxies_are_found_and_replaced(run_chaos: RunChaos) -> None:
    fault = 'controller_failure(replacement="new_actor")'
    ran = run_chaos(ONE.format(fault=fault), behaviour=FakeBehaviour(deafens=True), cluster=BorrowedFake)

    ran.outcomes(failed=1)
    ran.result.stdout.fnmatch_lines(["*3 of 3 proxies do not hear the controller: a new replica was not served by*"])
    assert ran.text.count("which does not hear the new controller") == 3


def test_without_a_word_who_answered_nothing_is_claimed(run_chaos: RunChaos) -> None:
    ran = run_chaos(ONE.format(fault="head_failure"), behaviour=FakeBehaviour(anonymous=True), cluster=BorrowedFake)

    ran.outcomes(inconclusive=1)
    ran.result.stdout.fnmatch_lines(["*the aftershock cannot be judged: the answers do not name their replica*"])


def test_what_the_owner_forbids_is_skipped_before_anything_is_sent(run_chaos: RunChaos) -> None:
    ran = run_chaos(ONE.format(fault="head_failure"), "-rs", cluster=HeadIsForbidden)

    ran.outcomes(skipped=1)
    ran.result.stdout.fnmatch_lines(["SKIPPED * this user may not delete pods"])
    assert not History.load(ran.directory / "history.jsonl").requests


def test_a_test_that_changes_the_config_is_skipped(run_chaos: RunChaos) -> None:
    ran = run_chaos(
        'def test_it(serve_cluster): serve_cluster.update("sleepy_pid#SleepyPid", num_replicas=1)',
        "-rs",
        cluster=BorrowedFake,
    )

    ran.outcomes(skipped=1)
    ran.result.stdout.fnmatch_lines(["SKIPPED * the Serve config is not ours to change"])
