"""When the answers of others show that a victim gives none, also where answers take seconds."""

from __future__ import annotations

from dataclasses import dataclass, replace

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


# -- several apps, and requests of several names -----------------------------------------------------------------------


@dataclass
class Other:
    """Requests to another app, or of another name, that replicas of their own answer."""

    rate: float
    takes: float
    app: str = "other"
    name: str = ""


def of_two(
    monkeypatch: pytest.MonkeyPatch, now: float, *, rate: float, takes: float, usual: float, other: Other, hangs: bool
) -> Evidence | None:
    """What is seen of the victim where others are sent as well.

    Args:
        now: Seconds since the fault.
        rate: Of the requests to the victim's deployment, which has two replicas.
        takes: What their answers take.
        usual: What the answers of all take together.
        other: The others.
        hangs: Whether every second of the victim's requests hangs since the fault.
    """
    history = History()
    rig = rig_around(history=history)
    rig.traffic.slowness = Slowness(usual + 2.0, usual, usual, 1.0)
    monkeypatch.setattr(clock, "now", lambda: STRUCK + now)

    def send(number: int, due: float, takes: float, by: str, app: str, name: str, hangs: bool) -> None:
        one = replace(answered(due, takes, by), index=number, app=app, name=name)
        if hangs or due + takes > STRUCK + now:
            history.open_request(replace(one, finished=STRUCK + now, error=UNFINISHED, replica=None))
        else:
            history.add_request(one)

    for number in range(round(rate * (20 + now))):
        due = STRUCK - 20 + number / rate
        is_late = due + takes >= STRUCK
        send(number, due, takes, NAMES[1 if is_late else number % 2], "app", "", hangs and is_late and number % 2 == 0)
    for number in range(round(other.rate * (20 + now))):
        by = NAMES[1] if other.app == "app" else "other#Model#a"
        send(10_000 + number, STRUCK - 20 + number / other.rate, other.takes, by, other.app, other.name, False)
    return nobody_answers(rig, [VICTIM], STRUCK)


def test_what_others_answer_to_several_apps_counts_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node with a replica of each of two apps: of six requests to each app, the other replica has answered all."""
    history, victims = History(), [VICTIM, replace(VICTIM, deployment="more#Model", replica="more#Model#a")]
    rig = rig_around(history=history)
    rig.traffic.slowness = Slowness(2.01, 0.01, 0.01, 1.0)
    monkeypatch.setattr(clock, "now", lambda: STRUCK + 3.3)
    for number in range(46):
        due = STRUCK - 20 + number / 2
        for app in ("app", "more"):
            by = f"{app}#Model#{'ab'[number % 2] if due < STRUCK else 'b'}"
            history.add_request(replace(answered(due, 0.01, by), app=app))
    assert nobody_answers(rig, victims[:1], STRUCK) is None
    found = nobody_answers(rig, victims, STRUCK)
    assert found is not None
    assert found.text.startswith("not one of 10 requests was answered by")
    assert found.text.endswith("who gave 40 of 80 answers before")


SLOW, QUICK = Other(2.0, 4.5), Other(50.0, 0.01)


def test_an_outage_of_a_quick_app_is_seen_though_another_app_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    found = of_two(monkeypatch, 2.9, rate=2.0, takes=0.02, usual=4.5, other=SLOW, hangs=True)
    assert found is not None
    assert found.text.startswith("a request hangs for 1.9 s")


def test_an_outage_of_a_slow_app_is_seen_though_another_app_is_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    found = of_two(monkeypatch, 9.0, rate=1.0, takes=4.5, usual=4.5, other=QUICK, hangs=True)
    assert found is not None


@pytest.mark.parametrize("usual", [0.02, 4.5])
def test_answers_of_a_slow_app_are_on_their_way_whatever_others_take(
    monkeypatch: pytest.MonkeyPatch, usual: float
) -> None:
    assert of_two(monkeypatch, 3.0, rate=1.0, takes=4.5, usual=usual, other=QUICK, hangs=False) is None


@pytest.mark.parametrize("other", [replace(SLOW, rate=1.0), replace(SLOW, rate=1.0, app="app", name="long")])
def test_slow_requests_of_another_app_or_name_do_not_hang(monkeypatch: pytest.MonkeyPatch, other: Other) -> None:
    """Few requests of the victim's own show nothing, and what all take together is what the many quick ones take."""
    assert of_two(monkeypatch, 3.0, rate=1.0, takes=0.02, usual=0.02, other=other, hangs=False) is None
