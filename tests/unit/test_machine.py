"""When others' work on the machine is the reason that something took long, and what the verdict is then."""

from __future__ import annotations

import dataclasses

import pytest

from pytest_serve_chaos.analysis.machine import MachineUse, held_up, use_of
from pytest_serve_chaos.checks.verdict import judge
from pytest_serve_chaos.events import MachineSeen
from pytest_serve_chaos.model import Expectations, Verdict
from pytest_serve_chaos.results import result_of
from tests.unit.histories import Story, deaf_controller

QUIET = MachineSeen("", seconds=1.0, processors=2, ours=0.3, others=0.05, waiting=0.05, delayed=0.01, has_cluster=True)
BUSY = dataclasses.replace(QUIET, others=1.0, waiting=0.9, delayed=2.0)
WHY = "other processes used 1.0 of 2 processors of this machine, and processes waited for one 90 % of the time"


def seconds(*events: MachineSeen, first: float = 1.0) -> list[MachineSeen]:
    return [dataclasses.replace(event, at=first + n) for n, event in enumerate(events)]


# -- what holds a cluster up


def test_three_busy_seconds_hold_it_up() -> None:
    assert held_up(seconds(QUIET, QUIET, BUSY, BUSY, BUSY, QUIET), 0.0, 10.0) == WHY


@pytest.mark.parametrize(
    "events",
    [
        pytest.param([QUIET] * 10, id="a quiet machine"),
        pytest.param([BUSY, QUIET, QUIET, QUIET] * 3, id="one busy second now and then"),
        pytest.param([dataclasses.replace(BUSY, others=0.1, ours=1.9)] * 10, id="the app itself"),
        pytest.param([dataclasses.replace(BUSY, waiting=0.1)] * 10, id="nobody waits"),
        pytest.param([dataclasses.replace(BUSY, waiting=None, delayed=0.1)] * 10, id="nobody of ours waits"),
        pytest.param([dataclasses.replace(BUSY, processors=64)] * 10, id="one processor of 64"),
        pytest.param([dataclasses.replace(BUSY, has_cluster=False)] * 10, id="a cluster elsewhere"),
        pytest.param([], id="unknown"),
    ],
)
def test_what_does_not_hold_it_up(events: list[MachineSeen]) -> None:
    assert held_up(seconds(*events), 0.0, 20.0) == ""


@pytest.mark.parametrize(
    "busy",
    [
        pytest.param(dataclasses.replace(BUSY, others=0.0, stolen=1.0), id="steal time"),
        pytest.param(dataclasses.replace(BUSY, waiting=None), id="no PSI"),
        pytest.param(dataclasses.replace(BUSY, others=7.0, ours=1.0, processors=8), id="others have nearly all"),
    ],
)
def test_what_else_holds_it_up(busy: MachineSeen) -> None:
    assert held_up(seconds(*[busy] * 5), 0.0, 20.0)


def test_only_that_time_counts() -> None:
    events = seconds(*[BUSY] * 5, *[QUIET] * 5)
    assert not held_up(events, 5.0, 20.0)
    assert not held_up(events, -5.0, 0.0)
    assert held_up(events, 0.0, 5.0)


def test_a_moment_that_is_all_there_is_counts() -> None:
    assert held_up(seconds(BUSY), 0.0, 2.0)


def test_the_use_of_a_machine_is_a_mean_over_time() -> None:
    quiet, busy = (
        dataclasses.replace(QUIET, others=0.0, waiting=0.04, delayed=0.0),
        dataclasses.replace(BUSY, waiting=None),
    )
    assert use_of([quiet, quiet, quiet, busy]) == MachineUse(2, 0.3, 0.25, 0.0, 0.03, 0.5)
    assert use_of([dataclasses.replace(BUSY, waiting=None)]) == MachineUse(2, 0.3, 1.0, 0.0, None, 2.0)
    assert use_of([]) is None


# -- the verdict


def story(outcome: str = "", *, demands: Expectations | None = None) -> Story:
    """A head that dies; requests are lost for 20 s."""
    expectations = demands or Expectations(availability=0.99, longest_outage=5.0, window=60.0)
    return Story(expectations=expectations).lose(0.0, 20.0, error=outcome or "ReadTimeout", takes=1.0)


def on_a_machine(busy: MachineSeen, told: Story, *, begin: int = 1, end: int = 60) -> Story:
    for second in range(begin, end):
        told.add(float(second), busy)
    return told


def verdict(told: Story) -> Verdict:
    return judge(told.history(), told.experiment)


def test_a_demand_that_was_missed_on_a_quiet_machine_fails() -> None:
    assert verdict(on_a_machine(QUIET, story())).outcome == "failed"


@pytest.mark.parametrize("error", ["ReadTimeout", "ConnectError", "HTTP 503"])
def test_a_demand_that_was_missed_while_others_worked_is_inconclusive(error: str) -> None:
    found = verdict(on_a_machine(BUSY, story(error)))
    assert found.outcome == "inconclusive"
    assert f"demands were missed only because {WHY}" in found.reasons[0]


def test_all_that_was_missed_while_others_worked_is_one_sentence() -> None:
    (reason,) = verdict(on_a_machine(BUSY, story("ReadTimeout"))).reasons
    assert reason.startswith(f"demands were missed only because {WHY}: ")
    assert reason.count("Allowed: ") == 2
    assert ".;" not in reason


@pytest.mark.parametrize("error", ["HTTP 500", "HTTP 404", "WrongAnswer"])
def test_what_the_app_answered_itself_fails_whatever_others_do(error: str) -> None:
    assert verdict(on_a_machine(BUSY, story(error))).outcome == "failed"


def test_of_a_generator_that_was_late_the_verdict_says_who_used_the_processors_then() -> None:
    told = Story(lag=0.5, expectations=Expectations(availability=0.99, longest_outage=2.0, window=60.0))
    stolen = dataclasses.replace(BUSY, ours=0.8, others=0.1, stolen=1.0)
    (reason,) = verdict(on_a_machine(stolen, told)).reasons
    assert reason.endswith(
        "leave it more CPU (this run used 0.8 of 2 processors of this machine then, other processes 0.1, and its "
        "hypervisor gave 1.0 to other machines)"
    )


def test_an_app_that_used_the_processors_itself_fails() -> None:
    assert verdict(on_a_machine(dataclasses.replace(BUSY, others=0.1, ours=1.9), story())).outcome == "failed"


def test_others_that_had_ended_before_the_fault_excuse_nothing() -> None:
    assert verdict(on_a_machine(BUSY, story(), begin=-9, end=0)).outcome == "failed"


@pytest.mark.parametrize(("begin", "outcome"), [(12, "failed"), (3, "inconclusive")])
def test_others_that_began_later_do_not_excuse_what_was_away_before(begin: int, outcome: str) -> None:
    # An outage of 5 s is allowed, and so is what is lost in it.
    demands = Expectations(availability=0.9, longest_outage=5.0, window=60.0)
    assert verdict(on_a_machine(BUSY, story(demands=demands), begin=begin)).outcome == outcome


def test_a_request_that_waited_when_others_began_to_work_may_have_been_answered_in_time() -> None:
    demands = Expectations(availability=None, longest_outage=2.0, slow_after=4.0, window=60.0)
    told = Story(expectations=demands).lose(9.0, 12.5, error="ReadTimeout", takes=5.0)
    assert verdict(on_a_machine(QUIET, told, end=60)).outcome == "failed"
    told = Story(expectations=demands).lose(9.0, 12.5, error="ReadTimeout", takes=5.0)
    assert verdict(on_a_machine(BUSY, told, begin=12)).outcome == "inconclusive"


def test_a_recovery_whose_time_was_over_before_others_worked_is_late() -> None:
    told = Story(expectations=Expectations(redundancy_back=5.0))  # it was back after 19.8 s
    assert verdict(on_a_machine(BUSY, told, begin=8)).outcome == "failed"


def test_a_recovery_that_was_late_while_others_worked_is_inconclusive() -> None:
    def late() -> Story:
        return Story(expectations=Expectations(redundancy_back=5.0))  # it was back after 19.8 s

    assert verdict(on_a_machine(QUIET, late())).outcome == "failed"
    assert verdict(on_a_machine(BUSY, late())).outcome == "inconclusive"


def test_a_stale_proxy_is_stale_whatever_others_do() -> None:
    found = verdict(on_a_machine(BUSY, deaf_controller(Expectations(availability=0.9))))
    assert found.outcome == "failed"
    assert "do not hear their controller" in found.reasons[0]


def test_a_post_recovery_check_that_got_no_answer_is_excused() -> None:
    def silent() -> Story:
        told = deaf_controller(Expectations(availability=0.9)).without("proxy_deaf", "unsettled")
        return told.event(30.0, "unsettled", "no answer through the proxy on head within 30 s")

    assert verdict(on_a_machine(QUIET, silent())).outcome == "failed"
    assert verdict(on_a_machine(BUSY, silent())).outcome == "inconclusive"


def test_a_slow_answer_is_excused_too() -> None:
    def slow() -> Story:
        return Story(expectations=Expectations(p99_ratio=2.0, window=60.0)).slow(1.0, 55.0, 0.05)

    assert verdict(on_a_machine(QUIET, slow())).outcome == "failed"
    assert verdict(on_a_machine(BUSY, slow())).outcome == "inconclusive"


def test_a_late_generator_does_not_turn_others_work_into_a_failure() -> None:
    told = on_a_machine(BUSY, Story(lag=0.3, expectations=Expectations(longest_outage=2.0)).lose(5.0, 25.0))
    assert verdict(told).outcome == "inconclusive"


def test_a_passed_verdict_says_that_others_worked() -> None:
    told = on_a_machine(BUSY, Story(expectations=Expectations(availability=0.9)), begin=-9)
    result = result_of(told.history(), told.experiment)
    assert result.outcome == "passed"
    assert f"before the fault, {WHY}: what was usual then is slower than without them" in result.remarks
    assert f"since the fault, {WHY}: the figures are worse than without them" in result.remarks


def test_a_passed_verdict_on_a_quiet_machine_says_nothing_of_it() -> None:
    told = on_a_machine(QUIET, Story(expectations=Expectations(availability=0.9)), begin=-9)
    result = result_of(told.history(), told.experiment)
    assert not [text for text in result.remarks if "processors" in text]
    assert result.machine == MachineUse(2, 0.3, 0.05, 0.0, 0.05, 0.01)


CROWDED = dataclasses.replace(QUIET, ours=1.9, waiting=0.9)


def test_a_machine_that_is_too_small_for_its_cluster_is_remarked() -> None:
    told = on_a_machine(CROWDED, story(), begin=-9)
    result = result_of(told.history(), told.experiment)
    assert result.outcome == "failed", "the cluster's own work is no excuse"
    assert (
        "before the fault, this run used 1.9 of 2 processors, and processes waited for one 90 % of the time: "
        "this machine may be too small for the cluster"
    ) in result.remarks


def test_a_machine_that_is_too_small_while_traffic_is_out_is_remarked() -> None:
    """The nodes of a local cluster share the machine: one that starts takes the processors of the others."""
    told = on_a_machine(CROWDED, story())
    result = result_of(told.history(), told.experiment)
    assert result.outcome == "failed"
    assert (
        "in the longest outage, this run used 1.9 of 2 processors, and processes waited for one 90 % of the time: "
        "with a machine for each node, it may be shorter"
    ) in result.remarks


def test_an_outage_on_a_machine_with_room_has_no_remark_of_it() -> None:
    told = on_a_machine(CROWDED, on_a_machine(QUIET, story(), end=26), begin=27)
    assert not [text for text in result_of(told.history(), told.experiment).remarks if "longest outage" in text]


@pytest.mark.parametrize(
    ("allowed", "seconds"),
    [
        pytest.param(30.0, 21.0, id="it is as short as was demanded"),
        pytest.param(0.5, 1.5, id="it is too short to say so"),
    ],
)
def test_an_outage_without_a_remark_of_the_machine(allowed: float, seconds: float) -> None:
    demanded = Expectations(longest_outage=allowed, availability=0.99)
    told = on_a_machine(CROWDED, Story(expectations=demanded).lose(5.0, 5.0 + seconds), begin=1)
    result = result_of(told.history(), told.experiment)
    assert result.outcome == "failed"
    assert not [text for text in result.remarks if "longest outage" in text]


@pytest.mark.parametrize(
    ("machine", "begin"),
    [
        pytest.param(dataclasses.replace(CROWDED, ours=0.4), -9, id="processes that may use a part of one only"),
        pytest.param(CROWDED, 1, id="busy since the fault only"),
        pytest.param(BUSY, -9, id="busy with others' work"),
        pytest.param(dataclasses.replace(CROWDED, waiting=None), -9, id="nobody knows who waited"),
        pytest.param(dataclasses.replace(CROWDED, has_cluster=False), -9, id="a cluster elsewhere"),
    ],
)
def test_what_does_not_make_a_machine_too_small(machine: MachineSeen, begin: int) -> None:
    told = on_a_machine(machine, Story(expectations=Expectations(availability=0.9)), begin=begin)
    assert not [text for text in result_of(told.history(), told.experiment).remarks if "too small" in text]
