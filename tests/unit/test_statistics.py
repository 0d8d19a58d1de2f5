from __future__ import annotations

import math
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_serve_chaos.analysis.statistics import availability_interval, chance_of_more, lower_bound, requests_needed
from pytest_serve_chaos.errors import SettingsError

counts = st.integers(1, 400).flatmap(lambda sent: st.tuples(st.integers(0, sent), st.just(sent)))


def at_most(k: int, n: int, rate: float) -> float:
    return math.fsum(math.comb(n, i) * rate**i * (1 - rate) ** (n - i) for i in range(k + 1))


def test_no_loss_in_3750_requests_shows_99_92_percent() -> None:
    assert f"{lower_bound(0, 3750, 0.95):.4f}" == "0.9992"


def test_three_lost_of_3750_requests_show_99_79_percent() -> None:
    assert f"{lower_bound(3, 3750, 0.95):.4f}" == "0.9979"


def test_the_interval_of_3_in_20_is_the_one_in_textbooks() -> None:
    low, high = availability_interval(3, 20)
    assert (low, high) == pytest.approx((1 - 0.379, 1 - 0.032), abs=5e-4)


@settings(deadline=None)
@given(st.integers(1, 100_000), st.floats(0.5, 0.999))
def test_without_loss_the_bound_has_a_closed_form(sent: int, confidence: float) -> None:
    assert lower_bound(0, sent, confidence) == pytest.approx((1 - confidence) ** (1 / sent), abs=1e-12)


@settings(deadline=None)
@given(counts)
def test_at_the_ends_of_the_interval_the_tails_have_their_probability(count: tuple[int, int]) -> None:
    lost, sent = count
    low, high = availability_interval(lost, sent)
    if lost < sent:
        assert at_most(lost, sent, 1 - low) == pytest.approx(0.025, abs=1e-9)
    if lost > 0:
        assert 1 - at_most(lost - 1, sent, 1 - high) == pytest.approx(0.025, abs=1e-9)


@settings(deadline=None)
@given(counts)
def test_the_interval_holds_the_share_and_is_wider_than_the_one_sided_bound(count: tuple[int, int]) -> None:
    lost, sent = count
    low, high = availability_interval(lost, sent)
    assert 0 <= low <= lower_bound(lost, sent) <= 1 - lost / sent + 1e-12
    assert 1 - lost / sent - 1e-12 <= high <= 1


@settings(deadline=None)
@given(counts)
def test_good_and_lost_are_mirror_images(count: tuple[int, int]) -> None:
    lost, sent = count
    low, high = availability_interval(lost, sent)
    assert availability_interval(sent - lost, sent) == pytest.approx((1 - high, 1 - low))


@settings(deadline=None)
@given(counts)
def test_at_the_loss_of_a_bound_as_many_losses_or_more_have_the_probability_of_its_tail(count: tuple[int, int]) -> None:
    lost, sent = count
    _, high = availability_interval(lost, sent, 0.9)
    assert chance_of_more(lost, sent, 1 - high) == pytest.approx(0.05 if lost else 1.0, abs=1e-9)


def test_all_lost_and_nothing_sent() -> None:
    assert availability_interval(20, 20)[0] == 0.0
    assert availability_interval(0, 20)[1] == 1.0
    assert availability_interval(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize("lost", [0, 1, 500, 50_000, 99_999])
def test_a_hundred_thousand_requests_take_no_time(lost: int) -> None:
    start = time.process_time()
    low, high = availability_interval(lost, 100_000)
    assert time.process_time() - start < 1.0
    assert low < 1 - lost / 100_000 <= high


@pytest.mark.parametrize(
    ("availability", "needed"), [(0.0, 3), (0.5, 6), (0.9, 30), (0.99, 300), (0.999, 3000), (0.9999, 30000)]
)
def test_the_rule_of_three(availability: float, needed: int) -> None:
    assert requests_needed(availability) == needed


@settings(deadline=None)
@given(st.floats(0.1, 0.9999), st.floats(0.5, 0.9999))
def test_with_enough_requests_and_no_loss_the_bound_reaches_the_demand(availability: float, confidence: float) -> None:
    assert lower_bound(0, requests_needed(availability, confidence), confidence) >= availability - 1e-9


def test_a_higher_confidence_needs_more_requests() -> None:
    assert requests_needed(0.99, 0.99) == 459 > requests_needed(0.99, 0.95) == requests_needed(0.99)


def test_no_number_of_requests_shows_an_availability_of_one() -> None:
    with pytest.raises(SettingsError, match=r"0\.999 needs 3000 requests(.|\n)*lost_beyond_in_flight=0"):
        requests_needed(1.0)


@pytest.mark.parametrize("availability", [-0.1, 1.1, 99.0, float("nan")])
def test_an_availability_is_a_share(availability: float) -> None:
    with pytest.raises(SettingsError, match="between 0 and 1"):
        requests_needed(availability)


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95.0])
def test_a_confidence_is_between_0_and_1(confidence: float) -> None:
    with pytest.raises(SettingsError, match=r"write confidence=0\.95"):
        lower_bound(0, 10, confidence)


def test_no_more_can_be_lost_than_was_sent() -> None:
    with pytest.raises(ValueError, match="11 lost of 10 sent"):
        lower_bound(11, 10)
