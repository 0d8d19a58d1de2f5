"""What was sent before a replica is killed has its answer first, as far as that can be waited for."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest

from pytest_serve_chaos import clock, load
from pytest_serve_chaos.load import Load, Traffic
from pytest_serve_chaos.model import Request
from tests.unit.test_served import rig

if TYPE_CHECKING:
    from pytest_serve_chaos.traffic.generator import Generator


def in_flight(index: int, source: str, *, since: float) -> Request:
    return Request(index, "fresh", since, since, since, source=source)


def running(monkeypatch: pytest.MonkeyPatch) -> Traffic:
    """Traffic that is sent, whose requests may take 0.2 s."""
    traffic = Traffic(rig(), Load(timeout=0.2), source="mine")
    monkeypatch.setattr(traffic, "_generator", cast("Generator", object()))
    monkeypatch.setattr(load, "_TO_END", 0.0)
    return traffic


def test_it_is_over_when_what_was_in_flight_has_ended_though_others_are(monkeypatch: pytest.MonkeyPatch) -> None:
    traffic = running(monkeypatch)
    begun = clock.now()
    history = traffic.rig.history
    history.open_request(in_flight(1, "another", since=begun - 1))
    history.open_request(in_flight(2, "mine", since=begun + 60))
    traffic.wait_answered()
    assert clock.now() - begun < 0.2


def test_a_request_that_hangs_is_waited_for_as_long_as_one_may_take(monkeypatch: pytest.MonkeyPatch) -> None:
    traffic = running(monkeypatch)
    begun = clock.now()
    traffic.rig.history.open_request(in_flight(1, "mine", since=begun - 1))
    traffic.wait_answered()
    assert clock.now() - begun >= 0.2


def test_without_traffic_there_is_nothing_to_wait_for() -> None:
    Traffic(rig(), Load(), wait=False).wait_answered()
