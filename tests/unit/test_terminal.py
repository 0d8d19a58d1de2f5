from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_serve_chaos.analysis.result import Result, result_of
from pytest_serve_chaos.model import ClusterDescription, Expectations, Latency, Measurement, Outcome, Verdict
from pytest_serve_chaos.report.terminal import header_line, summary_table, timeline_excerpt
from tests.unit.histories import FAULT, Story, deaf_controller, head_failure, node_failure, not_started, request

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
    assert header_line(CLUSTER, 50.0, 61407) == (
        "serve-chaos: local backend, ray 2.60.0, head + 2 workers, redis 7.0; app sleepy_pid, 6 replicas; "
        "50 requests/s; seed 61407"
    )


def test_the_header_of_a_small_cluster_without_fault_tolerance() -> None:
    small = replace(CLUSTER, workers=0, gcs="none", app="ranker:deploy", replicas=1)
    assert header_line(small, 0.5, 1) == (
        "serve-chaos: local backend, ray 2.60.0, head only, no GCS fault tolerance; app ranker:deploy, 1 replica; "
        "0.5 requests/s; seed 1"
    )


def test_a_table_of_all_verdicts() -> None:
    failed = node_failure(Expectations(window=40.0, longest_outage=5.0, availability=None))
    results = [result(story) for story in (head_failure(), deaf_controller(), failed, not_started())]
    assert summary_table(results, width=140) == [
        "experiment          verdict       lost / sent  in flight  available  outage  p99 before>during  traffic back"
        "  redundancy  settled",
        "head_failure        passed           3 / 1003          3    99.70 %  0.06 s       8 ms >  8 ms        0.02 s"
        "      19.8 s   21.0 s",
        "controller_failure  FAILED           0 / 1001          -   100.00 %       -       8 ms >  8 ms             -"
        "      19.8 s    never",
        "  3 proxies do not hear their controller (proxy on head, proxy on worker-1, proxy on worker-2): a new route"
        " was not served by them within 10",
        "  s (ray#63784)",
        "node_failure        FAILED         400 / 2001          1    80.01 %  24.0 s       8 ms > 5.0 s        24.0 s"
        "      19.8 s   21.0 s",
        "  the longest outage lasted 24.0 s. Allowed: 5 s.",
        "worker_failure      INCONCLUSIVE  the pod held no replica and answered nothing before the fault",
    ]


def test_titles_are_folded_where_the_table_would_be_too_wide() -> None:
    lines = summary_table([result(head_failure()), result(deaf_controller())])
    assert lines[:3] == [
        "                                              in                               p99  traffic",
        "experiment          verdict  lost / sent  flight  available  outage  before>during     back"
        "  redundancy  settled",
        "head_failure        passed      3 / 1003       3    99.70 %  0.06 s   8 ms >  8 ms   0.02 s"
        "      19.8 s   21.0 s",
    ]


def test_a_long_name_has_a_line_of_its_own() -> None:
    long = "tests/test_ranker.py::test_losing_the_head_costs_nothing"
    lines = summary_table([result(renamed(head_failure(), long))])
    assert lines[-2] == long
    assert lines[-1].split()[:4] == ["passed", "3", "/", "1003"]


def row_of(story: Story) -> list[str]:
    """The words of the experiment's row."""
    return next(line.split() for line in summary_table([result(story)]) if line.startswith(story.experiment))


def renamed(story: Story, name: str) -> Story:
    story.events = [replace(event, experiment=name) for event in story.events]
    story.experiment = name
    return story


def test_an_inconclusive_experiment_that_was_measured_shows_its_figures() -> None:
    lines = summary_table([result(Story(expectations=Expectations(availability=0.999)))])
    assert "0 / 1001" in lines[-3]
    assert lines[-2].startswith("  too few requests: 1001 in the 20 s after the fault.")


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
    assert row_of(silent)[:8] == ["head_failure", "passed", "-", "-", "-", "-", "-", "-"]


def test_nothing_ran_nothing_is_shown() -> None:
    assert summary_table([]) == []


outcomes: st.SearchStrategy[Outcome] = st.sampled_from(["passed", "failed", "inconclusive"])
spans = st.none() | st.floats(0, 90_000)
latencies = st.none() | st.builds(Latency, *[st.floats(0, 120)] * 4)
measurements = st.builds(
    Measurement,
    sent=st.integers(0, 500_000),
    lost=st.integers(0, 500_000),
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


def test_a_timeline_tells_what_happened_in_seconds_from_the_fault() -> None:
    story = node_failure().event(12.5, "gone", "replica default#SleepyPid on worker-2")
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
        "Errors in the window: 334 ReadTimeout",
    ]


def test_what_was_lost_on_kept_connections_is_said_apart() -> None:
    story = head_failure()
    kept = [request(FAULT + at, error) for at, error in ((1.0, None), (2.0, "RemoteProtocolError"))]
    story.requests += [replace(one, stream="kept:0") for one in kept]
    lines = timeline_excerpt(story.history(), "head_failure")
    assert lines[-1] == "On kept connections: 1 of 2 requests lost"


def test_a_timeline_without_a_fault_counts_from_the_beginning() -> None:
    lines = timeline_excerpt(not_started().history(), "worker_failure")
    assert lines[0] == "Seconds from the beginning:"
    assert "   +15.00 s  not_started      the pod held no replica and answered nothing before the fault" in lines


def test_a_crowded_timeline_leaves_out_single_components_first() -> None:
    story = head_failure()
    for i in range(100):
        story.event(1 + i / 10, "gone", f"component {i}")
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
