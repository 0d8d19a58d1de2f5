"""A kept connection whose proxy is elsewhere from some moment on, as the pods of a RayService are."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

import pytest

from pytest_serve_chaos import clock
from pytest_serve_chaos.clock import NotYet
from pytest_serve_chaos.errors import ObservationError
from pytest_serve_chaos.history import History
from pytest_serve_chaos.model import Request
from pytest_serve_chaos.traffic import kept
from pytest_serve_chaos.traffic.generator import Generator
from pytest_serve_chaos.traffic.kept import KeptLane, Persistent, SpecOf
from pytest_serve_chaos.traffic.request import RequestSpec
from pytest_serve_chaos.traffic.sending import Sending
from pytest_serve_chaos.traffic.transports.http import Http
from tests.unit.http_servers import Manners, Reader, Writer, answers, response, serving

NAME = "proxy on worker-1"
GONE = answers(response(status="404 Not Found"))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "_LOOK_AGAIN_AFTER", 0.02)


def to(url: str) -> RequestSpec:
    """With a timeout that nothing runs into, however busy the machine is."""
    return RequestSpec(url, timeout=60.0)


@contextlib.contextmanager
def lane_to(url: str, spec_of: SpecOf) -> Iterator[Callable[[], list[Request]]]:
    """Traffic on one lane; gives its requests so far."""
    history = History()
    with serving(answers()) as shared:
        lane = KeptLane(NAME, to(url), spec_of)
        with Generator(Sending.of(to(shared), Http()), rate=1, history=history, persistent=Persistent(50, [lane])):
            yield lambda: [r for r in history.requests if r.kept]


def wait_for(what: str, holds: Callable[[], bool]) -> None:
    clock.wait_until(what, lambda: holds() or NotYet("not yet"), timeout=60.0, interval=0.01)


def test_a_proxy_that_is_elsewhere_is_found_there() -> None:
    with serving(GONE) as old, serving(answers()) as new, lane_to(old, lambda: to(new)) as requests:
        wait_for("good answers", lambda: sum(not r.lost for r in requests()) > 5)
        seen = requests()
    first = next(n for n, r in enumerate(seen) if not r.lost)
    assert first > 0
    assert {r.error for r in seen[:first]} == {"HTTP 404"}
    assert not any(r.lost for r in seen[first:])
    assert {r.path for r in seen} == {NAME}


def test_as_long_as_all_is_well_nobody_is_asked() -> None:
    asked: list[None] = []
    with serving(answers()) as url, lane_to(url, lambda: asked.append(None)) as requests:
        wait_for("answers", lambda: len(requests()) > 10)
    assert not asked


def test_while_somebody_is_asked_requests_go_on() -> None:
    answer, threads = threading.Event(), set[str]()

    def slowly() -> RequestSpec:
        threads.add(threading.current_thread().name)
        assert answer.wait(60.0)
        return to(new)

    with serving(GONE) as old, serving(answers()) as new, lane_to(old, slowly) as requests:
        wait_for("losses", lambda: len(requests()) > 10)
        answer.set()
        wait_for("a good answer", lambda: any(not r.lost for r in requests()))
    assert len(threads) == 1, "nobody is asked twice at a time"
    assert "serve-chaos-traffic" not in threads


@pytest.mark.parametrize("error", [None, ObservationError("its pod is gone")])
def test_a_proxy_that_is_nowhere_yet_is_looked_for_again(error: ObservationError | None) -> None:
    asked: list[None] = []

    def appears() -> RequestSpec | None:
        asked.append(None)
        if len(asked) > 2:
            return to(new)
        if error is not None:
            raise error
        return None

    with serving(GONE) as old, serving(answers()) as new, lane_to(old, appears) as requests:
        wait_for("a good answer", lambda: any(not r.lost for r in requests()))
    assert len(asked) >= 3


def test_a_proxy_that_is_where_it_was_keeps_its_connection() -> None:
    taken: list[None] = []

    def noted(manners: Manners) -> Manners:
        async def behave(reader: Reader, writer: Writer) -> None:
            taken.append(None)
            await manners(reader, writer)

        return behave

    asked: list[None] = []

    def same() -> RequestSpec:
        asked.append(None)
        return to(url)

    with serving(noted(answers(response(status="500 Oops")))) as url, lane_to(url, same) as requests:
        wait_for("looks", lambda: len(asked) > 3)
        assert all(r.lost for r in requests())
    assert len(taken) == 1
