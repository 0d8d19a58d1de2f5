"""What may be demanded, and what requests cannot show: refused before anything is broken."""

from __future__ import annotations

import pytest

from pytest_serve_chaos.analysis.demands import can_show, not_shown, shows, with_demands
from pytest_serve_chaos.errors import SettingsError
from pytest_serve_chaos.model import Expectations
from pytest_serve_chaos.schedule import Schedule
from tests.unit.test_verdict import only

DEFAULT = Expectations()


def refused(expected: Expectations, *, rate: float = 50.0, timeout: float = 5.0) -> list[str]:
    return list(not_shown(expected, schedule=Schedule.of(rate), timeout=timeout))


def test_what_is_not_named_keeps_the_default_and_durations_may_have_units() -> None:
    found = with_demands(DEFAULT, {"longest_outage": "500ms", "traffic_back": None, "kept": "replicas"})
    assert (found.longest_outage, found.traffic_back, found.kept) == (0.5, None, ("replicas",))
    assert found.availability == DEFAULT.availability


def test_several_selectors_may_be_given() -> None:
    assert with_demands(DEFAULT, {"replaced": ["head", "gcs"]}).replaced == ("head", "gcs")


@pytest.mark.parametrize(
    ("demand", "message"),
    [
        ({"avialability": 0.9}, "there is no expectation 'avialability'"),
        ({"send_lag_limit": 1.0}, "there is no expectation 'send_lag_limit'"),
        ({"availability": 99}, "availability=99 is not a share"),
        ({"availability": 0}, "availability=0 is not a share"),
        ({"persistent_availability": 1.1}, "persistent_availability=1.1 is not a share"),
        ({"availability": "0.9"}, "availability='0.9' is not a share"),
        ({"window": 0}, "window=0 judges nothing"),
        ({"slow_after": "soon"}, "slow_after: 'soon' is not a duration"),
        ({"kept": ("pods",)}, "'pods' does not select anything"),
    ],
)
def test_a_demand_that_does_not_exist_or_means_nothing_is_refused(demand: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        with_demands(DEFAULT, demand)


@pytest.mark.parametrize("share", [1, 1.0, 0.5])
def test_a_share_may_be_all(share: float) -> None:
    assert with_demands(DEFAULT, {"availability": share}).availability == share


def test_ordinary_demands_are_not_refused() -> None:
    assert refused(DEFAULT) == []
    assert refused(only(longest_outage=0.5, slow_after=0.25)) == []


def test_too_few_requests_for_the_availability_are_refused_with_the_window_that_has_enough() -> None:
    (reason,) = refused(only(availability=0.999, window=20.0))
    assert reason.startswith("1000 requests in a window of 20 s cannot show an availability of 99.9 %: that takes 3000")
    assert "Give a window of 60 s or more" in reason
    assert refused(only(availability=0.999, window=60.0)) == []


@pytest.mark.parametrize("name", ["longest_outage", "traffic_back"])
def test_an_outage_that_is_shorter_than_two_spacings_of_the_requests_cannot_be_shown(name: str) -> None:
    (reason,) = refused(only(**{name: 0.5}), rate=2.0)
    assert reason.startswith(f"requests that are 0.5 s apart cannot show {name}=0.5 s: allow 1 s or more")
    assert reason.endswith("or send 4 requests a second or more")
    assert refused(only(**{name: 1.0}), rate=2.0) == []


@pytest.mark.parametrize(
    ("share", "rate", "reasons"),
    [
        (0.9, 0.1, 0),  # it need not be shown
        (0.999, 0.0, 0),  # nobody sends any
        (0.999, 150.0, 0),
        (0.999, 6.0, 1),
    ],
)
def test_too_few_requests_on_persistent_connections_for_a_high_share_are_refused(
    share: float, rate: float, reasons: int
) -> None:
    demanded = only(availability=0.999, persistent_availability=share, window=20.0)
    found = list(not_shown(demanded, schedule=Schedule.of(150.0), timeout=5.0, persistent_rate=rate))
    assert len(found) == reasons
    if (share, rate) == (0.999, 6.0):
        assert found == [
            "120 requests on persistent connections in a window of 20 s cannot show a persistent_availability of "
            "99.9 %: that takes 3000. Give a window of 500 s or more, a higher persistent_rate, or demand less"
        ]


def test_a_request_cannot_wait_longer_than_its_timeout() -> None:
    assert refused(only(slow_after=5.0), timeout=5.0) == [
        "slow_after=5 s is never reached: a request is lost after 5 s"
    ]
    assert refused(only(slow_after=4.9), timeout=5.0) == []


def test_an_outage_shorter_than_what_a_request_may_wait_cannot_be_shown() -> None:
    (reason,) = refused(only(longest_outage=2.0, slow_after=3.0))
    assert reason == "longest_outage=2 s cannot be shown where a request may wait 3 s (slow_after)"
    assert refused(only(longest_outage=3.0, slow_after=3.0)) == []
    assert refused(only(longest_outage=None, slow_after=3.0)) == []


def test_defaults_grow_to_what_few_requests_can_show() -> None:
    few = can_show(DEFAULT, Schedule.of(0.5))
    assert (few.longest_outage, few.traffic_back) == (4.0, 30.0)
    assert can_show(DEFAULT, Schedule.of(50.0)) == DEFAULT
    assert can_show(only(), Schedule.of(0.01)) == only()


def test_twice_the_spacing_is_enough_in_floats_too() -> None:
    assert shows(0.6, 0.3)
    assert shows(2 * 0.1, 0.1)
    assert not shows(0.59, 0.3)
