"""A total hang takes rate x timeout sockets; what the process may open must not decide what is measured."""

from __future__ import annotations

import math
import resource
import sys
from collections.abc import Iterator

import pytest

from pytest_serve_chaos import clock
from pytest_serve_chaos.backends import Finding
from pytest_serve_chaos.clock import NotYet
from pytest_serve_chaos.doctor import examine
from pytest_serve_chaos.errors import SettingsError
from pytest_serve_chaos.history import History
from pytest_serve_chaos.schedule import Schedule
from pytest_serve_chaos.traffic.generator import Generator
from pytest_serve_chaos.traffic.request import RequestSpec
from pytest_serve_chaos.traffic.sending import Sending
from pytest_serve_chaos.traffic.sockets import in_flight_possible, open_files_for, sockets_for
from pytest_serve_chaos.traffic.transports.http import Http
from tests.unit.http_servers import refusing, serving, stalls


def limit() -> tuple[int, int]:
    return resource.getrlimit(resource.RLIMIT_NOFILE)


@pytest.fixture
def soft() -> Iterator[int]:
    """A soft limit as low as most Linux machines have it, with room above it."""
    before = limit()
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, before[1]))
    yield 1024
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def set_hard(monkeypatch: pytest.MonkeyPatch, hard: int) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (min(hard, 1024), hard))


@pytest.mark.parametrize(
    ("rate", "timeout", "needed"),
    [(50, 5, 300), (0.5, 5, 3), (400, 30, 12400), (0.1, 0.5, 1), (1, math.inf, sys.maxsize)],
)
def test_what_hangs_is_in_flight_for_its_timeout_and_a_little(rate: float, timeout: float, needed: int) -> None:
    assert in_flight_possible(Schedule.of(rate), timeout).needed == needed


@pytest.mark.parametrize(("hard", "possible"), [(1024, 768), (20000, 19744), (resource.RLIM_INFINITY, 65280), (100, 1)])
def test_the_hard_limit_says_how_many_are_possible(hard: int, possible: int, monkeypatch: pytest.MonkeyPatch) -> None:
    set_hard(monkeypatch, hard)
    assert in_flight_possible(Schedule.of(1), 1).possible == possible


def test_the_limit_is_raised_while_it_is_needed(soft: int) -> None:
    with sockets_for(2000) as sockets:
        assert sockets == 2000
        assert limit()[0] == open_files_for(2000) > soft
    assert limit()[0] == soft


def test_a_limit_that_is_high_enough_is_left_alone(soft: int) -> None:
    with sockets_for(700) as sockets:
        assert sockets == 768
        assert limit()[0] == soft
    assert limit()[0] == soft


def test_a_limit_that_somebody_else_changed_meanwhile_is_left_to_them(soft: int) -> None:
    with sockets_for(2000):
        resource.setrlimit(resource.RLIMIT_NOFILE, (3000, limit()[1]))
    assert limit()[0] == 3000 > soft


def test_beyond_the_hard_limit_there_are_as_many_as_there_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    set_hard(monkeypatch, 1024)
    with sockets_for(5000) as sockets:
        assert sockets == 768


def test_an_app_that_hangs_gets_all_requests_that_are_due(soft: int) -> None:
    history = History()
    with serving(stalls) as url:
        generator = Generator(Sending.of(RequestSpec(url, timeout=20), Http()), rate=400, history=history)
        with generator:
            raised = limit()[0]
            clock.wait_until("requests", lambda: generator.in_flight > 850 or NotYet(""), timeout=60, interval=0.05)
            generator.stop(drain=0.0)
    assert raised == open_files_for(400 * 21)
    assert generator.not_sent == 0
    assert {r.error for r in history.requests} <= {"Unfinished"}
    assert limit()[0] == soft


def test_traffic_that_needs_few_sockets_changes_no_limit(soft: int) -> None:
    with refusing() as url, Generator(Sending.of(RequestSpec(url, timeout=5), Http()), rate=100, history=History()):
        assert limit()[0] == soft


# -- doctor ------------------------------------------------------------------------------------------------------------


def open_files(backend: str, environ: dict[str, str]) -> Finding:
    (found,) = (f for f in examine(backend, {}, environ) if f.what == "open files")
    return found


@pytest.mark.parametrize("backend", ["local", "kind", "kubernetes"])
def test_doctor_says_whether_there_are_open_files_for_a_hang(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    set_hard(monkeypatch, 1024)
    assert open_files(backend, {}).ok
    slow = open_files(backend, {"SERVE_CHAOS_RATE": "100", "SERVE_CHAOS_REQUEST_TIMEOUT": "20s"})
    assert not slow.ok
    assert "768 requests in flight" in slow.found
    assert "100 requests/s with a timeout of 20 s are 2100" in slow.found
    assert "ulimit -n 2356" in slow.fix


def test_doctor_refuses_a_rate_that_cannot_be_read() -> None:
    with pytest.raises(SettingsError, match="--serve-chaos-rate 'much'"):
        examine("kubernetes", {}, {"SERVE_CHAOS_RATE": "much"})
