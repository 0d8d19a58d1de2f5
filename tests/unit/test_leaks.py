"""What a process uses after recovery: which slopes are leaks, and what an experiment says of them."""

from __future__ import annotations

import json
import math
import os
import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_serve_chaos.analysis.demands import with_demands
from pytest_serve_chaos.analysis.growth import Trend, WatchedUsage, grows_without_end, stays_above, watched_usage
from pytest_serve_chaos.analysis.measure import measure_record
from pytest_serve_chaos.analysis.queues import queue_lengths
from pytest_serve_chaos.analysis.record import read_record
from pytest_serve_chaos.analysis.theil_sen import theil_sen
from pytest_serve_chaos.checks.base import Missed, Observation
from pytest_serve_chaos.checks.leaks import Leaks
from pytest_serve_chaos.checks.verdict import judge
from pytest_serve_chaos.cluster.haproxy import Generation
from pytest_serve_chaos.cluster.local import processes
from pytest_serve_chaos.cluster.local.usage import ProcUsage
from pytest_serve_chaos.errors import SettingsError
from pytest_serve_chaos.events import MachineSeen, Phase, PhaseBegan, UsageSeen
from pytest_serve_chaos.history import History
from pytest_serve_chaos.json_records import event_to_json
from pytest_serve_chaos.model import Component, Expectations, Identity, Request
from pytest_serve_chaos.observe.usage import period
from pytest_serve_chaos.report.demanded import demands
from pytest_serve_chaos.results import result_of
from pytest_serve_chaos.usage import ProcessUsage
from tests.unit.histories import FAULT, head_failure
from tools.leak_alarms import alarms

MIB = 2**20
TIMES = [float(at) for at in range(30)]

values = st.lists(st.integers(-1000, 1000).map(float), min_size=30, max_size=30)


# -- the slope ---------------------------------------------------------------------------------------------------------


def test_the_slope_of_a_line_is_certain() -> None:
    found = theil_sen(TIMES, [5 + 2 * at for at in TIMES], 0.999)
    assert (found.value, found.low, found.high) == (2.0, 2.0, 2.0)


def test_of_few_values_the_interval_has_no_bounds() -> None:
    found = theil_sen([0.0, 1.0, 2.0], [1.0, 2.0, 2.5], 0.999)
    assert (found.low, found.high) == (-math.inf, math.inf)


@given(values)
def test_the_slope_is_within_its_interval_which_grows_with_the_confidence(found: list[float]) -> None:
    narrow, wide = theil_sen(TIMES, found, 0.9), theil_sen(TIMES, found, 0.999)
    assert wide.low <= narrow.low <= narrow.value <= narrow.high <= wide.high


@given(values, st.integers(-50, 50), st.integers(-1000, 1000))
def test_what_is_added_to_the_values_is_added_to_the_slope(found: list[float], steeper: int, higher: int) -> None:
    before = theil_sen(TIMES, found, 0.95)
    after = theil_sen(TIMES, [v + steeper * at + higher for at, v in zip(TIMES, found, strict=True)], 0.95)
    assert after.value == pytest.approx(before.value + steeper)


@given(st.sets(st.integers(0, 29), max_size=6), values)
def test_one_value_in_five_may_be_anything(wrong: set[int], others: list[float]) -> None:
    found = [others[int(at)] if at in wrong else 3 * at for at in TIMES]
    assert theil_sen(TIMES, found, 0.95).value == 3.0


# -- what is a leak ----------------------------------------------------------------------------------------------------


def series(value: Callable[[float], float], *, noise: float = 0.05, seconds: int = 60) -> list[tuple[float, float]]:
    """The memory of a process in MiB, once a second."""
    rng = random.Random(3)
    return [(float(at), value(float(at)) + rng.gauss(0, noise)) for at in range(seconds)]


@pytest.mark.parametrize(
    ("what", "value", "grows"),
    [
        ("a leak", lambda at: 100 + 0.2 * at, True),
        ("a leak whose garbage is collected now and then", lambda at: 100 + 0.5 * at + 2 * (at % 3), True),
        ("a leak that becomes faster", lambda at: 100 + 0.002 * at**2 + 0.2 * at, True),
        ("nothing", lambda _: 100, False),
        ("a warm-up", lambda at: 200 - 100 * math.exp(-at / 20), False),
        ("a sawtooth", lambda at: 100 + 40 * ((at / 20) % 1), False),
        ("a slow sawtooth", lambda at: 100 + 40 * ((at / 45 + 0.3) % 1), False),
        ("steps", lambda at: 100 + 20 * (at > 14) + 20 * (at > 41), False),
        ("a fall", lambda at: 200 - at, False),
        ("too little to matter", lambda at: 100 + 0.05 * at, False),
    ],
)
def test_what_grows_without_end(what: str, value: Callable[[float], float], grows: bool) -> None:
    assert grows_without_end(series(value), 4.0) is grows, what


def test_a_few_samples_show_nothing() -> None:
    assert not grows_without_end(series(lambda at: at, seconds=15), 4.0)


def test_looks_that_are_too_few_to_tell_a_leak_from_a_warm_up_show_no_growth() -> None:
    assert alarms(40, watched=30) == 0
    assert not grows_without_end(series(lambda at: 10 * at, seconds=40), 4.0)


def test_healthy_runs_raise_no_alarm() -> None:
    """Of 3000 runs 0.4 % do: `python -m tools.leak_alarms 3000`."""
    assert alarms(40, watched=60) == 0


# -- against what was before -------------------------------------------------------------------------------------------


def usage(
    at: float,
    *,
    place: str = "replica app#App on worker-1",
    pid: int = 7,
    memory: float = 100,
    descriptors: float = 20,
    processors: float = 0.1,
) -> ProcessUsage:
    """Memory is in MiB."""
    identity = Identity("process", ("boot", str(pid), "1"))
    return ProcessUsage(place, identity, pid, int(memory * MIB), processors * at, int(descriptors), 8, 4)


def samples(begin: int, end: int, *of: Callable[[float], ProcessUsage]) -> list[UsageSeen]:
    """One a second, in seconds from the fault."""
    return [UsageSeen.of(FAULT + at, [one(float(at)) for one in of]) for at in range(begin, end)]


def watched(before: Callable[[float], ProcessUsage], after: Callable[[float], ProcessUsage]) -> WatchedUsage:
    seen = [*samples(-20, 0, before), *samples(60, 120, after)]
    return watched_usage(seen, asked=FAULT, begun=FAULT + 60)


def leaking(at: float) -> ProcessUsage:
    return usage(at, memory=100 + 0.5 * at, descriptors=20 + at)


def test_what_grows_only_since_the_fault_leaks() -> None:
    found = watched(lambda at: usage(at), leaking)
    assert found.leaks == (
        "replica app#App on worker-1 (PID 7) grows by 30 MiB of memory a minute (30 to 30), "
        "60 descriptors a minute (60 to 60)",
    )
    assert [(t.figure, t.before) for t in found.trends if t.grows] == [("memory", 0.0), ("descriptors", 0.0)]


def test_large_amounts_are_written_out() -> None:
    found = watched(usage, lambda at: usage(at, descriptors=20 + 20 * at))
    assert found.leaks[0].endswith("grows by 1200 descriptors a minute (1200 to 1200)")


def test_what_grew_as_fast_before_is_not_the_faults_doing() -> None:
    found = watched(leaking, leaking)
    assert found.leaks == ()
    assert len(found.old_leaks) == 1


def test_a_new_process_is_held_against_those_that_it_replaced() -> None:
    found = watched(leaking, lambda at: usage(at, pid=8, memory=100 + 0.5 * at, place="replica app#App on worker-2"))
    assert found.leaks == ()


def test_who_was_not_there_all_the_time_shows_nothing() -> None:
    seen = [*samples(-20, 0, usage), *samples(60, 90, leaking), *samples(90, 120, lambda at: usage(at, pid=9))]
    found = watched_usage(seen, asked=FAULT, begun=FAULT + 60)
    assert (found.processes, found.leaks) == (0, ())


def test_steady_use_has_no_trend() -> None:
    assert [trend for trend in watched(usage, usage).trends if trend.figure != "processor"] == []


# -- a level that stays ------------------------------------------------------------------------------------------------


def test_a_process_that_spins_since_the_fault_is_found_though_it_does_not_grow() -> None:
    found = watched(usage, lambda at: usage(at, processors=0.99))
    assert found.leaks == (
        "replica app#App on worker-1 (PID 7) has 0.99 processors all the time, 0.1 before the fault",
    )


def test_a_new_process_that_spins_is_held_against_the_one_that_it_replaced() -> None:
    found = watched(usage, lambda at: usage(at, pid=8, place="replica app#App on worker-2", processors=0.5))
    assert len(found.leaks) == 1


def test_a_process_that_has_nobody_before_it_is_not_judged() -> None:
    assert watched(usage, lambda at: usage(at, pid=8, place="controller", processors=0.99)).leaks == ()


@pytest.mark.parametrize("processors", [0.15, 0.34])
def test_a_little_more_than_before_is_not_found(processors: float) -> None:
    assert watched(usage, lambda at: usage(at, processors=processors)).leaks == ()


def test_one_that_was_busy_before_is_not_found() -> None:
    found = watched(lambda at: usage(at, processors=0.6), lambda at: usage(at, processors=0.9))
    assert found.leaks == ()


def test_one_that_spins_for_a_while_is_not_found() -> None:
    assert not stays_above([(float(at), 1.0 if at < 45 else 0.1) for at in range(60)], 0.1, 0.25)


def test_both_are_said_of_a_process_that_grows_and_spins() -> None:
    found = watched(usage, lambda at: usage(at, memory=100 + 0.5 * at, processors=0.9))
    assert found.leaks == (
        "replica app#App on worker-1 (PID 7) grows by 30 MiB of memory a minute (30 to 30),"
        " and has 0.9 processors all the time, 0.1 before the fault",
    )


# -- queues ------------------------------------------------------------------------------------------------------------


def request(sent: float, took: float, replica: str | None = "r1") -> Request:
    error = None if replica else "ReadTimeout"
    return Request(0, "fresh", sent, sent, sent + took, 200, replica=replica, error=error)


def test_a_request_is_in_the_queue_of_who_answered_it_from_when_it_was_sent() -> None:
    found = queue_lengths(
        [request(0.5, 2.0), request(1.0, 0.5), request(2.5, 1.0, "r2"), request(0.0, 9.0, None)], [0, 1, 2, 3]
    )
    assert found == {"r1": [(0, 0), (1, 2), (2, 1), (3, 0)], "r2": [(0, 0), (1, 0), (2, 0), (3, 1)]}


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 20)), max_size=20))
def test_queues_are_what_a_count_at_each_moment_says(each: list[tuple[int, int]]) -> None:
    requests = [request(float(sent), float(took)) for sent, took in each]
    moments = [float(at) for at in range(60)]
    counted = [(at, sum(r.sent is not None and r.sent <= at < r.finished for r in requests)) for at in moments]

    assert queue_lengths(requests, moments).get("r1", [(at, 0) for at in moments]) == counted


def queued(takes: Callable[[float], float]) -> WatchedUsage:
    """A replica gets ten requests a second, and each takes so many seconds, by the seconds from the fault."""
    seen = [*samples(-20, 0, usage), *samples(60, 120, usage)]
    times = [at / 10 for at in (*range(-250, 0), *range(550, 1200))]
    sent = [request(FAULT + at, takes(at)) for at in times]
    replicas = {"r1": Component("replica", "worker-1", usage(0).identity, 7, deployment="app#App", replica="r1")}
    earlier, later = ([r for r in sent if (r.scheduled < FAULT) is before] for before in (True, False))
    return watched_usage(seen, asked=FAULT, begun=FAULT + 60, requests=(earlier, later), replicas=replicas)


def test_a_queue_that_grows_since_the_fault_is_found() -> None:
    (leak,) = queued(lambda at: 0.1 if at < 0 else 0.05 * (at - 50)).leaks
    assert leak.startswith("replica app#App on worker-1 (PID 7) grows by")
    assert "requests in its queue a minute" in leak


def test_a_queue_that_stays_longer_than_before_is_found() -> None:
    assert queued(lambda at: 0.1 if at < 0 else 1.0).leaks == (
        "replica app#App on worker-1 (PID 7) has 10 requests in its queue all the time, 1 before the fault",
    )


def test_a_queue_that_is_as_it_was_is_not_found() -> None:
    assert queued(lambda _: 1.0).leaks == ()


# -- in an experiment --------------------------------------------------------------------------------------------------


def history(expected: Expectations, after: Sequence[UsageSeen], *, watch: bool = True) -> History:
    story = head_failure(expected).without_text(Phase.DONE.value)
    if watch:
        story.add(60.0, PhaseBegan.of(Phase.GROWTH))
    found = story.add(121.0, PhaseBegan.of(Phase.DONE)).history()
    for event in [*samples(-10, 0, usage), *after]:
        found.add(event)
    return found


def test_a_leak_fails_where_it_is_demanded() -> None:
    found = history(Expectations(leaks=0), samples(60, 120, leaking))
    verdict = judge(found, "head_failure")
    assert verdict.outcome == "failed"
    assert verdict.reasons[0].startswith("1 process leaks since the fault: replica app#App on worker-1 (PID 7) grows")
    (demand,) = [one for one in demands(result_of(found, "head_failure")) if one.what == "processes that leak"]
    assert (demand.demanded, demand.seen, demand.met) == ("at most 0", "1", False)


def test_a_leak_on_a_busy_machine_is_a_leak() -> None:
    found = history(Expectations(leaks=0), samples(60, 120, leaking))
    busy = MachineSeen("", seconds=1.0, processors=2, ours=0.5, others=1.5, waiting=0.9, has_cluster=True)
    for at in range(1, 61):
        found.add(replace(busy, at=FAULT + at))
    assert read_record(found, "head_failure").interference.since_fault
    assert judge(found, "head_failure").outcome == "failed"


def test_a_queue_on_a_busy_machine_may_be_the_machines_doing() -> None:
    usage_of_it = WatchedUsage(60.0, 60, 1, (Trend("replica", "queue", 9, 0, 0, 0, None, stays_above=True, usual=1.0),))
    found = replace(read_record(history(Expectations(leaks=0), []), "head_failure"), watched=usage_of_it)
    (missed,) = Leaks(0).judge(Observation(found, measure_record(found)))
    assert isinstance(missed, Missed)
    assert not missed.whatever_the_load


def test_a_leak_is_a_remark_where_nothing_is_demanded() -> None:
    result = result_of(history(Expectations(watch_for=60), samples(60, 120, leaking)), "head_failure")
    assert result.passed
    assert "leaks since the fault, and leaks=0 would judge that: replica app#App" in " ".join(result.remarks)


def test_without_a_leak_it_passes_and_says_what_was_watched() -> None:
    result = result_of(history(Expectations(leaks=0), samples(60, 120, usage)), "head_failure")
    assert result.passed
    assert "no leak since the fault: 1 process watched for 59 s after recovery" in result.remarks


@pytest.mark.parametrize(
    ("after", "watch", "reason"),
    [
        ([], False, "no process was watched after recovery"),
        ([], True, "processes were seen 0 times after recovery"),
        (samples(60, 70, leaking), True, "processes were seen 10 times after recovery"),
    ],
)
def test_without_samples_it_is_inconclusive(after: list[UsageSeen], watch: bool, reason: str) -> None:
    verdict = judge(history(Expectations(leaks=0), after, watch=watch), "head_failure")
    assert verdict.outcome == "inconclusive"
    assert reason in verdict.reasons[0]


def test_without_a_watch_of_its_own_it_begins_when_redundancy_is_back_for_good() -> None:
    """Who died again meanwhile, and what its successor needs to start, is nothing that grows after recovery."""
    story = head_failure().event(60.0, "redundancy_back", "redundancy is back once more")
    found = story.without_text(Phase.DONE.value).add(121.0, PhaseBegan.of(Phase.DONE)).history()
    for event in samples(20, 120, usage):
        found.add(event)
    watched = read_record(found, "head_failure").watched
    assert watched is not None
    assert watched.seconds == pytest.approx(59.0)


def test_a_history_of_it_is_small() -> None:
    line = json.dumps(event_to_json(UsageSeen.of(1000.0, [usage(1000.0)] * 9)))
    assert len(line) < 1500
    assert [period(60, 1.0), period(600, 1.0), period(3600, 1.0)] == [1.0, 5.0, 30.0]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"leaks": -1}, "leaks=-1 is not a number of processes"),
        ({"leaks": "none"}, "leaks='none' is not a number of processes"),
        ({"leaks": 0, "watch_for": 0}, "watch_for=0 shows no leak"),
    ],
)
def test_what_cannot_be_demanded(given: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        with_demands(Expectations(), given)


def test_how_long_processes_are_watched() -> None:
    assert Expectations().watched_for == 0.0
    assert with_demands(Expectations(), {"leaks": False}).watched_for == 60.0
    assert with_demands(Expectations(), {"leaks": 0, "watch_for": "2m"}).watched_for == 120.0


# -- what /proc says ---------------------------------------------------------------------------------------------------


def this_process(*, started: int = 0) -> Component:
    own = processes.read(os.getpid())
    assert own is not None
    identity = Identity("process", (*own.identity.parts[:2], str(own.started + started)))
    return Component("controller", "head", identity, own.pid)


def test_proc_says_what_a_process_uses(tmp_path: Path) -> None:
    shows, done = ProcUsage(lambda: ()), threading.Event()
    (before,) = shows.usage([this_process()])
    ballast = b"x" * (64 * MIB)
    thread = threading.Thread(target=done.wait)
    thread.start()
    with open(tmp_path / "a", "w"):
        (after,) = shows.usage([this_process()])
    done.set()
    thread.join()
    assert (before.place, before.pid) == ("controller", os.getpid())
    assert after.memory - before.memory > 0.9 * len(ballast)
    assert (after.descriptors - before.descriptors, after.threads - before.threads) == (1, 1)
    assert 0 < before.processor <= after.processor
    assert 0 <= before.connections <= before.descriptors


def test_a_pid_that_is_another_process_by_now_says_nothing() -> None:
    assert ProcUsage(lambda: ()).usage([this_process(started=1)]) == ()


def test_haproxy_is_watched_too() -> None:
    own = this_process()
    one = Generation("worker-1", own.identity, os.getpid(), None, True, "/tmp")
    (found,) = ProcUsage(lambda: (one,)).usage([])
    assert found.place == "haproxy on worker-1"
