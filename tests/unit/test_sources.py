"""Two streams of traffic in one history: each request says which sent it."""

from __future__ import annotations

import json
from pathlib import Path

from pytest_serve_chaos import clock
from pytest_serve_chaos.clock import NotYet
from pytest_serve_chaos.history import History
from pytest_serve_chaos.model import Request
from pytest_serve_chaos.traffic.generator import Generator
from pytest_serve_chaos.traffic.kept import KeptLane, Persistent
from pytest_serve_chaos.traffic.request import RequestSpec
from pytest_serve_chaos.traffic.sending import Sending
from pytest_serve_chaos.traffic.transports.http import Http
from tests.unit.http_servers import answers, response, serving

OOPS = answers(response(status="500 Oops"))


def request(index: int, source: str, scheduled: float = 0.0) -> Request:
    return Request(index, "fresh", scheduled, sent=scheduled, finished=scheduled, source=source)


def test_each_traffic_finds_its_own_requests_and_none_of_the_other() -> None:
    history = History()
    with serving(answers()) as well, serving(OOPS) as ill:
        second = Generator(
            Sending.of(RequestSpec(ill), Http()),
            rate=50,
            history=history,
            source="second",
            persistent=Persistent(lanes=[KeptLane()]),
        )
        with Generator(Sending.of(RequestSpec(well), Http()), rate=50, history=history), second:
            clock.wait_until("answers", lambda: len(history.requests) > 20 or NotYet(""), timeout=10, interval=0.01)
    own, others = history.requests_since(0.0, ""), history.requests_since(0.0, "second")
    assert {r.error for r in own} == {None}
    assert {r.error for r in others} == {"HTTP 500"}
    assert {r.stream for r in others} == {"fresh", "kept:0"}
    assert len(own) + len(others) == len(history.requests_since(0.0)) == len(history.requests)


def test_what_is_in_flight_is_told_apart_too() -> None:
    history = History()
    history.open_request(request(0, ""))
    history.open_request(request(0, "second"))
    history.add_request(request(0, ""))
    assert history.pending("") == ()
    assert [r.source for r in history.pending("second")] == ["second"]
    assert [r.source for r in history.pending()] == ["second"]
    assert [r.source for r in history.requests_since(0.0, "second", with_pending=True)] == ["second"]
    assert [r.source for r in history.requests_since(0.0, "", with_pending=True)] == [""]


def test_the_source_is_in_the_file(tmp_path: Path) -> None:
    history = History(tmp_path / "history.jsonl")
    history.add_request(request(0, "second"))
    history.add_request(request(0, ""))
    history.close()
    assert [r.source for r in History.load(tmp_path / "history.jsonl").requests] == ["second", ""]


def test_in_a_file_that_was_written_before_there_were_sources_all_are_the_experiments(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    history = History(path)
    history.add_request(request(0, "second"))
    history.close()
    header, line = path.read_text().splitlines()
    older = {name: value for name, value in json.loads(line).items() if name != "source"}
    path.write_text(f"{header}\n{json.dumps(older)}\n")
    assert [r.source for r in History.load(path).requests] == [""]
