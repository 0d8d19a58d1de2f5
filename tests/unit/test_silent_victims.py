"""When the answers of others show that a victim gives none, also where answers take seconds."""

from __future__ import annotations

import pytest

from pytest_serve_chaos import clock
from pytest_serve_chaos.faults.rig import Rig
from pytest_serve_chaos.faults.signs import nobody_answers
from pytest_serve_chaos.history import History
from pytest_serve_chaos.model import UNFINISHED, Component, Evidence, Identity, Request, Slowness
from tests.unit.rigs import rig_around

STRUCK = 100.0
NAMES = ("app#Model#a", "app#Model#b")
VICTIM = Component("replica", "worker-1", Identity("process", ("1",)), 1, deployment="app#Model", replica=NAMES[0])


def answered(due: float, takes: float, by: str) -> Request:
    return Request(round(due * 100), "fresh", due, due, due + takes, 200, None, by)


def evidence(
    monkeypatch: pytest.MonkeyPatch, now: float, *, rate: float, takes: float, hangs_since: float | None = None
) -> Evidence | None:
    """What is seen some seconds after the fault, where the other replica answers all, and each answer takes long."""
    history = History()
    rig: Rig = rig_around(history=history)
    rig.traffic.slowness = Slowness(takes + 2.0, takes, takes, 1.0)
    monkeypatch.setattr(clock, "now", lambda: STRUCK + now)
    for number in range(round(rate * 20)):
        due = STRUCK - 20 + number / rate
        if due + takes < STRUCK:
            history.add_request(answered(due, takes, NAMES[number % 2]))
    for number in range(round(rate * now)):
        due = STRUCK + number / rate
        if due + takes <= STRUCK + now:
            history.add_request(answered(due, takes, NAMES[1]))
        else:
            history.open_request(Request(number, "fresh", due, due, STRUCK + now, error=UNFINISHED))
    if hangs_since is not None:
        due = STRUCK + hangs_since
        history.open_request(Request(9999, "fresh", due, due, STRUCK + now, error=UNFINISHED))
    return nobody_answers(rig, [VICTIM], STRUCK)


def test_requests_that_are_on_their_way_show_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert evidence(monkeypatch, 4.0, rate=50.0, takes=4.5) is None, "200 are in flight, and none was answered yet"
    assert evidence(monkeypatch, 2.0, rate=10.0, takes=1.5) is None


def test_many_answers_of_others_do(monkeypatch: pytest.MonkeyPatch) -> None:
    found = evidence(monkeypatch, 8.0, rate=10.0, takes=1.5)
    assert found is not None
    assert found.text.startswith("not one of 64 requests was answered by replica app#Model on worker-1")
    assert evidence(monkeypatch, 2.0, rate=50.0, takes=0.01) is not None


@pytest.mark.parametrize(
    ("takes", "since", "now", "seen"),
    [(0.01, 0.3, 1.9, True), (1.5, 0.3, 3.7, False), (1.5, 0.3, 3.9, True), (4.5, 0.3, 6.7, False),
     (4.5, 0.3, 7.2, True)],
)  # fmt: skip
def test_a_request_hangs_once_it_waits_too_long_for_such_an_app(
    monkeypatch: pytest.MonkeyPatch, takes: float, since: float, now: float, seen: bool
) -> None:
    found = evidence(monkeypatch, now, rate=0.5, takes=takes, hangs_since=since)
    assert (found is not None) == seen
    if found is not None:
        assert found.text.startswith("a request hangs for ")
