from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_serve_chaos.analysis.result import Result
from pytest_serve_chaos.events import ComponentGone
from pytest_serve_chaos.model import (
    NO_DEMANDS,
    ClusterDescription,
    Expectations,
    Latency,
    Measurement,
    Outcome,
    Verdict,
)
from pytest_serve_chaos.report.terminal import cells, header_line, summary_table, timeline_excerpt, what_is_late
from pytest_serve_chaos.results import result_of
from pytest_serve_chaos.schedule import Schedule
from tests.unit.histories import (
    FAULT,
    Story,
    component,
    deaf_controller,
    head_failure,
    node_failure,
    not_started,
    request,
)

CLUSTER = ClusterDescription(
    backend="local",
    ray_version="2.60.0",
    workers=2,
    gcs="redis 7.0",
    app="pytest_serve_chaos.apps.sleepy_pid:app",
    profile="fast",
    replicas=6,
    url="http://127.0.0.1:8000/",
)


def result(story: Story) -> Result:
    return result_of(story.history(), story.experiment)


def test_the_header_says_what_is_under_test() -> None:
    assert header_line(CLUSTER, Schedule.of(50.0), 61407) == (
        "serve-chaos: local backend, ray 2.60.0, head + 2 workers, redis 7.0; app sleepy_pid, 6 replicas; "
        "50 requests/s; seed 61407"
    )


def test_the_header_of_a_small_cluster_without_fault_tolerance() -> None:
    small = replace(CLUSTER, workers=0, gcs="none", app="ranker:deploy", replicas=1)
    assert header_line(small, Schedule.of(0.5), 1) == (
        "serve-chaos: local backend, ray 2.60.0, head only, no GCS fault tolerance; app ranker:deploy, 1 replica; "
        "0.5 requests/s; seed 1"
    )


def test_a_table_of_all_verdicts() -> None:
    failed = node_failure(Expectations(window=40.0, longest_outage=5.0, availability=None))
    measured = renamed(head_failure(NO_DEMANDS), "redis_failure")
    results = [result(story) for story in (head_failure(), deaf_controller(), failed, measured, not_started())]
    assert summary_table(results, width=150) == [
        "experiment          verdict       lost or late / sent  in flight         available  outage  p99 before>during"
        "  traffic back  redundancy  settled",
        "head_failure        passed                   3 / 1003          3   99.70 % in 20 s  0.02 s       8 ms >  8 ms"
        "        0.02 s      19.8 s   21.0 s",
        "controller_failure  FAILED                   0 / 1001          -  100.00 % in 20 s       -       8 ms >  8 ms"
        "             -      19.8 s    never",
        "  3 proxies do not hear their controller (proxy on head, proxy on worker-1, proxy on worker-2): a new route"
        " was not served by them within 10 s",
        "  (ray#63784)",
        "node_failure        FAILED                 400 / 2001          1   80.01 % in 40 s  24.0 s       8 ms >  lost"
        "        24.0 s      19.8 s   21.0 s",
        "  the longest outage lasted 24.0 s. Allowed: 5 s.",
        "redis_failure       measured                 3 / 1003          3   99.70 % in 20 s  0.02 s       8 ms >  8 ms"
        "        0.02 s      19.8 s   21.0 s",
        "worker_failure      INCONCLUSIVE  the pod held no replica and answered nothing before the fault",
        "late: answered more than 1.0 s after the request was due; 2.0 s in node_failure, redis_failure",
    ]


def test_titles_are_folded_where_the_table_would_be_too_wide() -> None:
    lines = summary_table([result(head_failure()), result(deaf_controller())])
    assert lines[:3] == [
        "                                 lost or      in                                      p99  traffic",
        "experiment          verdict  late / sent  flight         available  outage  before>during     back"
        "  redundancy  settled",
        "head_failure        passed      3 / 1003       3   99.70 % in 20 s  0.02 s   8 ms >  8 ms   0.02 s"
        "      19.8 s   21.0 s",
    ]


def test_names_have_lines_of_their_own_where_the_table_would_still_be_too_wide() -> None:
    lines = summary_table([result(head_failure()), result(not_started())], width=103)
    assert lines == [
        "experiment         lost or     in                                  p99 traffic",
        "  verdict      late / sent flight       available outage before>during    back redundancy settled",
        "head_failure",
        "  passed          3 / 1003      3 99.70 % in 20 s 0.02 s  8 ms >  8 ms  0.02 s     19.8 s  21.0 s",
        "worker_failure",
        "  INCONCLUSIVE the pod held no replica and answered nothing before the fault",
        "late: answered more than 1.0 s after the request was due",
    ]


def test_a_long_name_has_a_line_of_its_own() -> None:
    long = "tests/test_ranker.py::test_losing_the_head_costs_nothing"
    lines = summary_table([result(renamed(head_failure(), long))])
    assert lines[-3] == long
    assert lines[-2].split()[:4] == ["passed", "3", "/", "1003"]


def test_an_answer_that_is_late_counts_in_the_row() -> None:
    """Nothing is lost here, and yet the app is away for five seconds."""
    row = row_of(Story().slow(3.0, 8.0, takes=4.0))
    assert row[:11] == ["head_failure", "FAILED", "250", "/", "1001", "-", "75.02", "%", "in", "20", "s"]
    assert row[11:13] == ["5.0", "s"]


def test_a_share_names_its_seconds_where_an_outage_ends_after_the_window() -> None:
    patient = Expectations(traffic_back=50.0, longest_outage=None, availability=0.5)
    row = " ".join(row_of(Story(expectations=patient).lose(25.0, 48.0)))
    assert row.startswith("head_failure passed 1150 / 2401 - 52.10 % in 48 s 23.0 s 8 ms > lost 48.0 s")


@pytest.mark.parametrize("seed", range(40))
def test_no_row_says_100_percent_where_requests_were_lost_or_late(seed: int) -> None:
    """However long, early, late or rare it is: what shows as an outage shows in the share, too."""
    chance = random.Random(seed)
    story = Story(rate=chance.choice((5.0, 20.0, 50.0)), expectations=Expectations(window=chance.choice((5.0, 20.0))))
    start = chance.uniform(0.0, 50.0)
    end = start + chance.choice((0.25, 1.0, 3.0, 20.0))
    if chance.random() < 0.5:
        story.lose(start, end, every=chance.randint(1, 5), takes=chance.choice((0.001, 5.0)))
    else:
        story.slow(start, end, takes=chance.uniform(1.1, 4.9))
    figures = cells(result(story))
    assert figures is not None
    assert figures[3] != "-", "this story has an outage"
    assert not figures[2].startswith("100.00 %")


def test_what_is_late_is_said_once_with_the_experiments_that_differ() -> None:
    strict = renamed(Story(expectations=Expectations(longest_outage=0.2)), "strict")
    slow = renamed(Story(expectations=Expectations(slow_after=1.5)), "slow")
    others = [result(head_failure()), result(node_failure()), result(not_started())]
    assert what_is_late([*others, result(strict), result(slow)]) == (
        "late: answered more than 1.0 s after the request was due; 108 ms in strict; 1.5 s in slow"
    )
    assert what_is_late([result(not_started())]) == ""


def test_a_remark_stands_below_its_row_whatever_the_verdict() -> None:
    lines = summary_table([result(head_failure().event(40.0, "remark", "4 replicas per node instead of 2/2"))])
    assert lines[-2:] == [
        "  note: 4 replicas per node instead of 2/2",
        "late: answered more than 1.0 s after the request was due",
    ]


def row_of(story: Story) -> list[str]:
    """The words of the experiment's row."""
    return next(line.split() for line in summary_table([result(story)]) if line.startswith(story.experiment))


def renamed(story: Story, name: str) -> Story:
    story.events = [replace(event, experiment=name) for event in story.events]
    story.experiment = name
    return story


def test_an_inconclusive_experiment_that_was_measured_shows_its_figures() -> None:
    lines = summary_table([result(Story(expectations=Expectations(availability=0.999)))])
    assert "0 / 1001" in lines[-4]
    assert lines[-3].startswith("  too few requests: 1001 in the 20 s after the fault.")


def test_the_reason_of_one_that_was_not_measured_is_wrapped() -> None:
    story = not_started().without("not_started").event(5.0, "not_started", "no steady state: " + "very " * 40 + "long")
    lines = summary_table([result(story)])
    assert lines[2].startswith("worker_failure  INCONCLUSIVE  no steady state: very")
    assert lines[3].startswith("  very")


def test_what_is_missing_is_a_dash_and_what_did_not_come_is_never() -> None:
    lost = Story(expectations=Expectations(redundancy_back=30.0)).without("redundancy_back", "settled")
    assert row_of(lost.lose(10.0, 70.0))[-3:] == ["never", "never", "-"]
    patient = Story(expectations=Expectations(redundancy_back=None)).without("redundancy_back")
    assert row_of(patient)[-4:] == ["-", "-", "21.0", "s"]
    silent = Story(expectations=Expectations(availability=None, longest_outage=None, traffic_back=None))
    silent.requests = []
    assert row_of(silent)[:8] == ["head_failure", "measured", "-", "-", "-", "-", "-", "-"]


def test_redundancy_that_was_waited_for_in_vain_is_never_also_where_it_was_not_demanded() -> None:
    story = Story(expectations=NO_DEMANDS).without("redundancy_back", "settled")
    assert row_of(story)[-2:] == ["-", "-"]
    assert row_of(story.event(50.0, "redundancy_missing", "redundancy is not back"))[-2:] == ["never", "-"]


def test_nothing_ran_nothing_is_shown() -> None:
    assert summary_table([]) == []


outcomes: st.SearchStrategy[Outcome] = st.sampled_from(["passed", "failed", "inconclusive", "measured"])
spans = st.none() | st.floats(0, 90_000)
latencies = st.none() | st.builds(Latency, *[st.floats(0, 120)] * 4)
measurements = st.builds(
    Measurement,
    sent=st.integers(0, 500_000),
    lost=st.integers(0, 500_000),
    late=st.integers(0, 500_000),
    seconds=st.floats(0, 90_000),
    slow_after=st.floats(0, 120),
    in_flight=st.integers(0, 9_999),
    availability=st.floats(0, 1),
    longest_outage=st.floats(0, 90_000),
    before=latencies,
    during=latencies,
    traffic_back=spans,
    redundancy_back=spans,
    settled=spans,
)
results = st.builds(
    Result,
    experiment=st.text(st.sampled_from([chr(code) for code in range(33, 127)]), min_size=1, max_size=100),
    fault=st.just("SIGKILL"),
    description=st.none(),
    expectations=st.just(Expectations()),
    measurement=measurements,
    verdict=st.builds(
        Verdict, outcomes, st.lists(st.text(st.sampled_from("ab %."), max_size=300), max_size=3).map(tuple)
    ),
)


@settings(deadline=None)
@given(st.lists(results, max_size=4))
def test_any_table_fits_into_120_columns(shown: list[Result]) -> None:
    lines = summary_table(shown)
    assert max(map(len, lines), default=0) <= 120
    for one in shown:
        assert any(one.experiment in line for line in lines)


def gone(text: str) -> ComponentGone:
    return ComponentGone(text, component=component("replica", "worker-2"))


def test_a_timeline_tells_what_happened_in_seconds_from_the_fault() -> None:
    story = node_failure().add(12.5, gone("replica default#SleepyPid on worker-2"))
    lines = timeline_excerpt(story.history(), "node_failure")
    assert lines == [
        "Seconds from the fault:",
        "   -10.00 s  phase            steady",
        "    -0.01 s  phase            inject",
        "    +0.00 s  asked            SIGKILL to the head",
        "    +0.00 s  outage           400 of 1198 requests lost",
        "    +0.02 s  evidence         14 processes are gone",
        "    +8.00 s  evidence         the GCS says DEAD",
        "    +8.00 s  landed           the head is down",
        "    +8.00 s  phase            watch",
        "   +12.50 s  gone             replica default#SleepyPid on worker-2",
        "   +19.80 s  redundancy_back  6 nodes, replicas and proxies",
        "   +19.80 s  phase            settle",
        "   +21.00 s  settled          3 of 3 proxies hear the controller",
        "   +23.96 s  outage over      after 24.0 s",
        "   +60.00 s  phase            done",
        "Errors in the 20 s after the fault: 334 ReadTimeout",
    ]


def test_a_timeline_says_of_an_outage_whether_requests_were_late_or_nobody_had_an_answer() -> None:
    slow = timeline_excerpt(Story().slow(3.0, 8.0, takes=4.0).history(), "head_failure")
    assert "    +3.00 s  outage           0 of 250 requests lost, 250 answered too late" in slow
    assert "    +8.00 s  outage over      after 5.0 s" in slow


def test_a_timeline_says_where_nobody_had_an_answer_though_each_was_answered_in_time() -> None:
    """Answers of this app take 5 s; at first one in twenty took 8 s. Then for 3 s none comes at all."""
    story = Story().event(-10.0, "steady", "steady since then")
    slow = {i for i, r in enumerate(story.requests) if r.scheduled < FAULT and i % 20 == 0}
    usual = [replace(r, finished=r.scheduled + (8.0 if i in slow else 5.0)) for i, r in enumerate(story.requests)]
    stands, goes_on = FAULT + 20.0, FAULT + 23.0
    story.requests = [replace(r, finished=goes_on) if stands < r.finished < goes_on else r for r in usual]
    found = [line for line in timeline_excerpt(story.history(), "head_failure") if " outage  " in line]
    assert [line.split(None, 3)[-1] for line in found] == ["no answer to anybody; all 149 requests answered later"]


def test_what_was_lost_on_persistent_connections_is_said_apart() -> None:
    story = head_failure()
    kept = [request(FAULT + at, error) for at, error in ((1.0, None), (2.0, "RemoteProtocolError"))]
    story.requests += [replace(one, stream="kept:0") for one in kept]
    lines = timeline_excerpt(story.history(), "head_failure")
    assert lines[-1] == "On persistent connections: 1 of 2 requests lost"


def test_a_timeline_without_a_fault_counts_from_the_beginning() -> None:
    lines = timeline_excerpt(not_started().history(), "worker_failure")
    assert lines[0] == "Seconds from the beginning:"
    assert "   +15.00 s  not_started      the pod held no replica and answered nothing before the fault" in lines


def test_a_crowded_timeline_leaves_out_single_components_first() -> None:
    story = head_failure()
    for i in range(100):
        story.add(1 + i / 10, gone(f"component {i}"))
    lines = timeline_excerpt(story.history(), "head_failure")
    assert not any("component" in line for line in lines)
    assert any("landed" in line for line in lines)


@pytest.mark.parametrize("most", [10, 11])
def test_a_timeline_has_a_limit(most: int) -> None:
    story = head_failure()
    for i in range(100):
        story.event(1 + i / 10, "problem", f"trouble {i}")
    lines = timeline_excerpt(story.history(), "head_failure", most=most)
    assert len(lines) == most + 3
    assert "left out)" in lines[1 + most // 2]
