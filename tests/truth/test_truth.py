"""Outages, lost requests and latencies are what a scripted server has done, at each rate and timeout.

This is traffic in real time. A short selection takes about a minute; SERVE_CHAOS_TRUTH=full tries every behaviour at
every rate and timeout, which takes a quarter of an hour.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import pytest

from pytest_serve_chaos.analysis.statistics import latency
from tests.truth.script import BEHAVIOURS, Run, Truth, close, measured_outages, send, truth_of

SHORT = [(20.0, 1.0)]
FULL = [(rate, timeout) for rate in (5.0, 20.0, 100.0, 400.0) for timeout in (1.0, 5.0, 30.0)]
TRIED = FULL if os.environ.get("SERVE_CHAOS_TRUTH") == "full" else SHORT


@dataclass(frozen=True)
class Tried:
    run: Run
    truth: Truth

    @property
    def within(self) -> float:
        """Seconds between two requests that a behaviour meets."""
        return self.run.spacing * max(followed.span.every for followed in self.run.followed)


@pytest.fixture(
    scope="module",
    params=[(name, rate, timeout) for rate, timeout in TRIED for name in BEHAVIOURS],
    ids=lambda param: f"{param[0]}, {param[1]:g}/s, {param[2]:g}s",
)
def tried(request: pytest.FixtureRequest) -> Tried:
    name, rate, timeout = request.param
    run = send(BEHAVIOURS[name], rate=rate, timeout=timeout)
    return Tried(run, truth_of(run))


def test_lost_requests_are_those_that_the_script_loses(tried: Tried) -> None:
    assert tried.run.not_sent == 0
    lost = sum(request.lost for request in tried.run.requests)
    # At each end of a span one request may be due a moment before or after it.
    most = max(2.0 * len(tried.run.followed), 0.05 * tried.truth.lost)
    assert lost == pytest.approx(tried.truth.lost, abs=most), f"the generator was up to {tried.run.lag:.3f} s late"


def test_lost_requests_are_as_many_as_the_server_did_not_answer_well(tried: Tried) -> None:
    if any(followed.span.does not in ("hang", "reset", "status", "wrong", "cut") for followed in tried.run.followed):
        pytest.skip("the server does not see which of these are lost")
    assert sum(request.lost for request in tried.run.requests) == sum(f.affected for f in tried.run.followed)


def test_p99_is_that_of_the_script(tried: Tried) -> None:
    measured = latency(tried.run.requests)
    assert measured is not None
    assert close(measured.p99, tried.truth.p99, tried.within), (
        f"{measured.p99:.3f} s, truly {tried.truth.p99:.3f} s; the generator was up to {tried.run.lag:.3f} s late"
    )


def test_outages_are_those_of_the_script(tried: Tried) -> None:
    measured = measured_outages(tried.run)
    shown = f"{measured}, truly {tried.truth.outages}; the generator was up to {tried.run.lag:.3f} s late"
    assert len(measured) == len(tried.truth.outages), shown
    for (begin, end), (true_begin, true_end) in zip(measured, tried.truth.outages, strict=True):
        assert close(begin, true_begin, tried.within), shown
        assert close(end - begin, true_end - true_begin, tried.within), shown
