"""What an experiment measured, and the percentiles in it."""

from __future__ import annotations

from dataclasses import replace
from math import inf
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_serve_chaos.analysis.measure import measure
from pytest_serve_chaos.analysis.statistics import latency, percentile
from pytest_serve_chaos.errors import HistoryError
from pytest_serve_chaos.history import History
from pytest_serve_chaos.model import Expectations, Latency, Measurement
from tests.unit.histories import FAULT, Story, deaf_controller, head_failure, node_failure, not_started, request


def measured(story: Story) -> Measurement:
    return measure(story.history(), story.experiment)


def test_a_head_failure_costs_what_was_in_flight() -> None:
    m = measured(head_failure())
    assert (m.sent, m.lost, m.in_flight, m.lost_beyond_in_flight) == (1003, 3, 3, 0)
    assert m.availability == pytest.approx(1000 / 1003)
    assert m.interval is not None
    assert m.interval[0] < 1000 / 1003 < m.interval[1]
    assert m.longest_outage == pytest.approx(0.02), "an outage never begins before the fault"
    assert m.traffic_back == pytest.approx(0.02)
    assert (m.redundancy_back, m.settled) == pytest.approx((19.8, 21.0))
    assert m.errors == {"RemoteProtocolError": 3}


def test_a_node_failure_has_an_outage_and_loss_beyond_what_was_in_flight() -> None:
    m = measured(node_failure(Expectations(window=40.0)))
    assert (m.sent, m.lost) == (2001, 400)
    assert (m.in_flight, m.lost_beyond_in_flight) == (1, 399)
    assert m.longest_outage == pytest.approx(23.96)
    assert len(m.outages) == 1
    assert m.traffic_back == pytest.approx(23.96)


def test_what_is_sent_after_the_fault_could_have_hit_was_not_in_flight() -> None:
    # The GCS says DEAD only after 8 s; the processes were gone after 20 ms.
    m = measured(Story().lose(0.0, 6.0))
    assert (m.in_flight, m.lost_beyond_in_flight) == (1, 299)


def test_on_a_victim_that_ends_slowly_only_what_its_end_cuts_was_in_flight() -> None:
    story = Story().event(45.0, "hit", "worker-1 has ended")
    story.lose(5.0, 25.0, error="ConnectError", takes=0.001).lose(44.96, 45.0, error="ReadError", takes=0.1)
    m = measured(story)
    assert (m.in_flight, m.lost_beyond_in_flight) == (2, 1000)


def test_a_sign_from_before_the_fault_is_not_one_of_it() -> None:
    assert measured(head_failure().event(-5.0, "evidence", "an old one", side="victim")).in_flight == 3


def test_a_request_that_never_left_was_not_in_flight() -> None:
    story = Story()
    story.requests.append(replace(request(FAULT, "NotSent"), sent=None))
    m = measured(story)
    assert (m.lost, m.in_flight, m.lost_beyond_in_flight, m.not_sent) == (1, 0, 1, 1)


def test_what_was_lost_and_over_before_the_fault_is_not_its_doing() -> None:
    m = measured(Story().lose(-5.0, -4.0, takes=1.0))
    assert (m.lost, m.in_flight, m.lost_beyond_in_flight, m.outages) == (0, 0, 0, ())


def test_what_was_asked_before_and_ended_after_was_exposed_to_the_fault() -> None:
    m = measured(Story().slow(-0.02, 0.0, takes=4.0))
    assert m.sent == 1002
    assert m.before is not None
    assert m.during is not None
    assert m.before.worst == pytest.approx(0.008)
    assert m.during.worst == pytest.approx(4.0)


def test_an_outage_after_the_window_is_in_the_availability_of_the_time_up_to_its_end() -> None:
    m = measured(Story().lose(30.0, 31.0))
    assert (m.lost, m.sent, m.lost_beyond_in_flight) == (50, 1551, 50)
    assert m.seconds == pytest.approx(31.0)
    assert m.availability == 1501 / 1551
    assert m.longest_outage == pytest.approx(1.0)
    assert m.traffic_back == pytest.approx(31.0)


def test_latency_is_compared_before_and_during() -> None:
    m = measured(Story().slow(1.0, 3.0, takes=0.5))
    assert m.before is not None
    assert m.during is not None
    assert (m.before.p99, m.during.p99, m.during.p50) == pytest.approx((0.008, 0.5, 0.008))


def test_kept_connections_are_counted_apart() -> None:
    story = Story()
    story.requests += [replace(request(FAULT + i, "ReadError" if i % 2 else None), stream="kept:1") for i in range(30)]
    m = measured(story)
    assert (m.sent, m.lost, m.kept_sent, m.kept_lost) == (1001, 0, 21, 10)


def test_an_open_outage_lasts_at_least_until_its_last_request_was_given_up() -> None:
    m = measured(Story().lose(50.0, 70.0, takes=5.0))
    assert m.traffic_back is None
    assert m.longest_outage == pytest.approx(15.0)


def test_what_settled_and_then_did_not_is_not_settled() -> None:
    assert measured(deaf_controller()).settled is None
    assert measured(Story().event(40.0, "unsettled", "one proxy went deaf")).settled is None


def test_redundancy_counts_after_the_last_of_nested_faults() -> None:
    story = Story().event(30.0, "asked", "SIGKILL to a replica").event(45.0, "redundancy_back", "all")
    assert measured(story).redundancy_back == pytest.approx(45.0)


def test_healing_is_timed() -> None:
    assert measured(Story().event(12.5, "healed", "the node may come back")).healed == pytest.approx(12.5)


def test_the_generator_is_measured_too() -> None:
    m = measured(Story(lag=0.02).lose(0.0, 2.0, takes=5.0))
    assert m.send_lag_p99 == pytest.approx(0.02)
    assert m.most_in_flight == 100
    assert m.scheduled == 3501
    assert (m.observed, m.traffic_observed) == pytest.approx((60.0, 60.0))


def test_without_a_fault_only_the_steady_state_is_measured() -> None:
    m = measured(not_started())
    assert (m.sent, m.lost, m.longest_outage, m.traffic_back, m.redundancy_back) == (None,) * 5
    assert m.outages == ()
    assert m.before is not None
    assert m.scheduled == 3501


def test_without_traffic_there_are_no_figures_of_it() -> None:
    story = Story()
    story.requests = []
    m = measured(story)
    assert (m.sent, m.availability, m.interval, m.traffic_back, m.longest_outage) == (None,) * 5
    assert m.redundancy_back == pytest.approx(19.8)


def test_experiments_of_one_run_do_not_see_each_other() -> None:
    history = History()
    head_failure().add_to(history)
    node_failure().add_to(history, later=100.0)
    assert measure(history, "head_failure") == measured(head_failure())
    assert measure(history, "node_failure").lost == measured(node_failure()).lost


def test_without_its_end_an_experiment_ends_where_the_next_begins() -> None:
    unfinished = head_failure()
    unfinished.events = [e for e in unfinished.events if e.text != "done"]
    history = History()
    unfinished.add_to(history)
    node_failure().add_to(history, later=100.0)
    assert measure(history, "head_failure") == measured(head_failure())


def test_an_experiment_that_is_not_there_is_an_error_with_those_that_are() -> None:
    with pytest.raises(HistoryError, match="its experiments: head_failure"):
        measure(head_failure().history(), "gcs_failure")


def test_a_history_from_a_file_gives_the_same_figures(tmp_path: Path) -> None:
    story = node_failure(Expectations(window=40.0, replaced=("replica@worker-2",)))
    live = story.history(tmp_path / "history.jsonl")
    loaded = measure(History.load(tmp_path / "history.jsonl"), "node_failure")
    assert (loaded.sent, loaded.lost, loaded.in_flight, loaded.errors) == (2001, 400, 1, {"ReadTimeout": 400})
    assert loaded.longest_outage == pytest.approx(measure(live, "node_failure").longest_outage, abs=1e-5)


@settings(max_examples=30)
@given(st.lists(st.tuples(st.floats(-10, 55), st.floats(0.02, 5), st.integers(1, 4)), max_size=4))
def test_every_lost_request_after_the_fault_is_in_flight_or_beyond(losses: list[tuple[float, float, int]]) -> None:
    story = Story(rate=10.0)
    for start, span, every in losses:
        story.lose(start, start + span, every=every, takes=1.0)
    m = measured(story)
    assert m.in_flight is not None
    assert m.lost_beyond_in_flight is not None
    assert m.lost is not None
    assert m.longest_outage is not None
    assert m.in_flight + m.lost_beyond_in_flight == sum(r.lost and r.finished > FAULT for r in story.requests)
    assert m.lost <= m.in_flight + m.lost_beyond_in_flight == sum(o.lost for o in m.outages)
    assert (m.longest_outage > 0) == bool(m.outages)
    assert all(outage.start >= FAULT for outage in m.outages)


values = st.lists(st.floats(0, 100), min_size=1, max_size=300)


@pytest.mark.parametrize(("share", "rank"), [(0.5, 50), (0.95, 95), (0.99, 99), (0.07, 7), (1.0, 100), (0.0, 1)])
def test_of_a_hundred_values_the_percentile_is_the_one_of_that_rank(share: float, rank: int) -> None:
    assert percentile([float(i) for i in range(1, 101)], share) == rank


@settings(deadline=None)
@given(values, st.floats(0, 1))
def test_a_percentile_was_observed_and_no_lower_value_would_do(observed: list[float], share: float) -> None:
    ordered = sorted(observed)
    found = percentile(ordered, share)
    assert found in observed
    assert sum(value <= found for value in ordered) >= share * len(ordered) - 1e-6
    assert sum(value < found for value in ordered) <= share * len(ordered) + 1e-6


def test_latencies_count_from_the_scheduled_time_and_a_lost_request_is_infinitely_slow() -> None:
    requests = [request(0.0, takes=0.5, lag=0.4), request(1.0, "ConnectError", takes=0.001), request(2.0, takes=0.25)]
    assert latency(requests) == Latency(p50=0.5, p95=inf, p99=inf, worst=inf)


def test_without_requests_there_is_no_latency() -> None:
    assert latency([]) is None
