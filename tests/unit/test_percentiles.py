from __future__ import annotations

from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_serve_chaos.analysis.statistics import latency, percentile
from pytest_serve_chaos.model import Latency
from tests.unit.histories import request

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
