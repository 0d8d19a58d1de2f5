"""What was sent before a replica is killed has its answer first, as far as that can be waited for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

import pytest

from pytest_serve_chaos import clock
from pytest_serve_chaos.load import Load, Traffic

if TYPE_CHECKING:
    from pytest_serve_chaos.faults.rig import Rig
    from pytest_serve_chaos.traffic.generator import Generator


class Busy:
    """A generator that has so many requests under way each time it is asked, at last the last number for ever."""

    def __init__(self, *under_way: int) -> None:
        self._numbers: Iterator[int] = iter(under_way)
        self._last = under_way[-1]

    @property
    def in_flight(self) -> int:
        return next(self._numbers, self._last)


def traffic_with(generator: Busy, monkeypatch: pytest.MonkeyPatch) -> Traffic:
    traffic = Traffic(cast("Rig", None), Load(timeout=0.2), wait=False)
    monkeypatch.setattr(traffic, "_generator", cast("Generator", generator))
    return traffic


def test_it_is_over_when_nothing_is_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = Busy(2, 2, 1, 1, 0, 7)
    traffic_with(generator, monkeypatch).wait_answered()
    assert generator.in_flight == 7, "it asked on when there were none"


def test_where_there_is_always_one_it_lasts_as_long_as_a_request_may(monkeypatch: pytest.MonkeyPatch) -> None:
    begun = clock.now()
    traffic_with(Busy(1), monkeypatch).wait_answered()
    assert clock.now() - begun >= 0.2


def test_without_traffic_there_is_nothing_to_wait_for() -> None:
    Traffic(cast("Rig", None), Load(), wait=False).wait_answered()
