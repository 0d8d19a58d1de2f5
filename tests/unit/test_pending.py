"""Requests in flight: who judges while traffic runs must see those that wait, too."""

from __future__ import annotations

import threading
from pathlib import Path

from pytest_serve_chaos import clock
from pytest_serve_chaos.clock import NotYet
from pytest_serve_chaos.history import History
from pytest_serve_chaos.model import UNFINISHED, Request
from pytest_serve_chaos.traffic.generator import Generator
from pytest_serve_chaos.traffic.kept import KeptLane, Persistent
from pytest_serve_chaos.traffic.request import RequestSpec
from pytest_serve_chaos.traffic.sending import Sending
from pytest_serve_chaos.traffic.transports.http import Http
from tests.unit.http_servers import answers, serving, stalls


def request(index: int, *, scheduled: float = 0.0, stream: str = "fresh", error: str | None = None) -> Request:
    return Request(index, stream, scheduled, sent=scheduled, finished=scheduled + 0.01, error=error)


def opened(*requests: Request) -> History:
    history = History()
    for one in requests:
        history.open_request(one)
    return history


def test_a_request_in_flight_is_pending_and_ends_now() -> None:
    begun = clock.now()
    history = opened(request(3, scheduled=begun))
    (pending,) = history.pending()
    assert (pending.index, pending.stream, pending.scheduled, pending.sent) == (3, "fresh", begun, begun)
    assert pending.error == UNFINISHED
    assert begun <= pending.finished <= clock.now()
    (later,) = history.pending()
    assert later.finished >= pending.finished
    assert history.requests == ()


def test_a_request_that_has_ended_is_pending_no_more() -> None:
    history = opened(request(0), request(1), request(0, stream="kept:0"))
    history.add_request(request(0))
    assert [(r.stream, r.index) for r in history.pending()] == [("fresh", 1), ("kept:0", 0)]
    assert [(r.stream, r.index) for r in history.requests] == [("fresh", 0)]


def test_what_was_recorded_long_after_it_ended_hides_nothing() -> None:
    history = History()
    for index, scheduled in enumerate((9.0, 2.0, 9.5)):
        history.add_request(request(index, scheduled=scheduled))
    assert {r.index for r in history.requests_since(8.0)} == {0, 2}


def test_traffic_that_begins_again_does_not_end_what_is_left_of_the_traffic_before() -> None:
    history = opened(request(0, scheduled=1.0), request(0, scheduled=9.0))
    history.add_request(request(0, scheduled=9.0))
    assert [r.scheduled for r in history.pending()] == [1.0]


def test_requests_and_those_in_flight_are_of_one_moment() -> None:
    history = opened(request(0, scheduled=1.0), request(1, scheduled=2.0), request(2, scheduled=3.0))
    history.add_request(request(1, scheduled=2.0))
    assert [(r.index, r.error) for r in history.requests_since(2.0, with_pending=True)] == [(1, None), (2, UNFINISHED)]
    assert [r.index for r in history.requests_since(2.0)] == [1]


def test_one_thread_may_ask_while_another_sends() -> None:
    history, over = History(), threading.Event()

    def send() -> None:
        for index in range(2000):
            history.open_request(request(index, scheduled=float(index)))
            history.add_request(request(index, scheduled=float(index)))
        over.set()

    sender = threading.Thread(target=send)
    sender.start()
    counted = set()
    while not over.is_set():
        counted.add(len(history.pending()))
        seen = [r.index for r in history.requests_since(0.0, with_pending=True)]
        assert seen == list(range(len(seen))), "one is missing, or there twice"
    sender.join()
    assert counted <= {0, 1}
    assert history.pending() == ()


def test_what_is_in_flight_is_never_in_the_file(tmp_path: Path) -> None:
    history = History(tmp_path / "history.jsonl")
    history.open_request(request(0))
    history.open_request(request(1))
    history.add_request(request(1))
    history.close()
    loaded = History.load(tmp_path / "history.jsonl")
    assert [r.index for r in loaded.requests] == [1]
    assert loaded.pending() == ()


def test_traffic_shows_what_hangs_before_its_time_is_over() -> None:
    history = History()
    lane = KeptLane("proxy on head")
    with serving(stalls) as url:
        generator = Generator(
            Sending.of(RequestSpec(url, timeout=60), Http()),
            rate=50,
            history=history,
            persistent=Persistent(10, [lane]),
        )
        with generator:
            clock.wait_until("a crowd", lambda: len(history.pending()) > 5 or NotYet(""), timeout=10, interval=0.01)
            pending = history.pending()
            generator.stop(drain=0.0)
    assert {(r.stream, r.path) for r in pending} == {("fresh", "proxies"), ("kept:0", "proxy on head")}
    assert history.pending() == ()
    assert {r.index for r in pending if not r.kept} <= {r.index for r in history.requests}


def test_of_traffic_that_is_answered_nothing_stays_pending() -> None:
    history = History()
    with (
        serving(answers()) as url,
        Generator(
            Sending.of(RequestSpec(url), Http()), rate=200, history=history, persistent=Persistent(lanes=[KeptLane()])
        ),
    ):
        clock.wait_until("answers", lambda: len(history.requests) > 20 or NotYet(""), timeout=10, interval=0.01)
    assert history.pending() == ()
