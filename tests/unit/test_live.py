"""What a terminal shows of a test that runs: who is gone, what became of the requests, and the lines made of that."""

from __future__ import annotations

import os
import re
import threading
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_serve_chaos import clock
from pytest_serve_chaos.events import ComponentCame, ComponentGone, Demanded, Event, Phase, PhaseBegan
from pytest_serve_chaos.history import History
from pytest_serve_chaos.live import block as block_module
from pytest_serve_chaos.live.block import LiveBlock, Watched
from pytest_serve_chaos.live.capture import follow
from pytest_serve_chaos.live.figures import RequestFigures, Second
from pytest_serve_chaos.live.frame import View, frame, seconds_shown
from pytest_serve_chaos.live.screen import LinesBelow
from pytest_serve_chaos.live.story import Story
from pytest_serve_chaos.model import Component, Expectations, Identity, Request, Role
from tests.unit.histories import head_failure

# -- who is gone ---------------------------------------------------------------------------------------------------


def component(role: Role, node: str, number: int = 1, deployment: str | None = None) -> Component:
    return Component(role, node, Identity("process", (role, node, str(number))), number, deployment=deployment)


def gone(at: float, one: Component) -> Event:
    return ComponentGone("", at=at, component=one)


def came(at: float, one: Component) -> Event:
    return ComponentCame("", at=at, component=one)


def missing(*events: Event, **lacking: int) -> list[tuple[str, float]]:
    """Who is gone and not back, since when; `lacking` says of what there should be more."""
    story = Story(0.0)
    story.tell(events)
    return [(one.component.name, one.since) for one in story.missing(lacking)]


def test_who_is_gone_is_missing_until_a_successor_comes() -> None:
    head, controller = component("head", "head"), component("controller", "head")
    assert missing(gone(3.0, head), gone(3.2, controller)) == [(head.name, 3.0), (controller.name, 3.2)]
    elsewhere = component("controller", "worker-1", 2)
    assert missing(gone(3.0, head), gone(3.2, controller), came(9.0, elsewhere)) == [(head.name, 3.0)]


def test_a_replica_may_be_replaced_on_any_node_by_one_of_its_deployment() -> None:
    one = component("replica", "worker-1", deployment="shop#Front")
    other = component("replica", "worker-2", 2, deployment="shop#Back")
    same = component("replica", "worker-2", 3, deployment="shop#Front")
    assert missing(gone(1.0, one), came(2.0, other), **{"shop#Front": 1}) == [(one.name, 1.0)]
    assert missing(gone(1.0, one), came(2.0, other), came(3.0, same), **{"shop#Front": 1}) == []


def test_a_successor_may_come_first() -> None:
    old = component("replica", "worker-1", deployment="shop#Front")
    new = component("replica", "worker-1", 2, deployment="shop#Front")
    assert missing(came(1.0, new), gone(2.0, old)) == []


def test_who_went_because_there_are_to_be_fewer_is_not_missing() -> None:
    first, second = (component("replica", "worker-1", n, deployment="shop#Front") for n in (1, 2))
    worker, proxy = component("worker", "worker-1"), component("proxy", "worker-1")
    events = gone(1.0, first), gone(2.0, worker), gone(2.0, proxy), gone(3.0, second)
    assert missing(*events) == []
    assert missing(*events, workers=1) == [(worker.name, 2.0), (proxy.name, 2.0)]
    assert missing(gone(1.0, first), gone(3.0, second), **{"shop#Front": 1}) == [(second.name, 3.0)]


def test_each_experiment_of_a_test_is_timed_by_itself() -> None:
    story = Story(0.0)
    first = Demanded("", at=5.0, expectations=Expectations())
    assert story.tell([first, PhaseBegan("", at=5.1, phase=Phase.STEADY)])
    assert not story.tell([replace(first, at=6.0)]), "the demands of the same experiment, adapted"
    assert (story.begun, story.phase) == (5.0, Phase.STEADY)
    assert story.tell([PhaseBegan("", at=60.0, phase=Phase.DONE), replace(first, at=61.0)])
    assert (story.begun, story.phase) == (61.0, None)


# -- requests ------------------------------------------------------------------------------------------------------


def sent(at: float, takes: float = 0.01, error: str | None = None, stream: str = "fresh") -> Request:
    return Request(round(at * 1000), stream, at, at, at + takes, error=error)


def figures_of(history: History, *looks: float, late_after: float = 1.0) -> RequestFigures:
    """After looks at these times."""
    figures = RequestFigures(0.0)
    for now in looks:
        figures.look(history, now, late_after)
    return figures


def test_requests_are_counted_by_the_second_in_which_they_were_due() -> None:
    history = History()
    for request in (
        sent(10.0, takes=0.25),
        sent(10.2, error="ConnectError"),
        sent(11.3, takes=1.5),
        sent(11.4, stream="kept:1"),
    ):
        history.add_request(request)
    figures = figures_of(history, 13.0)
    assert figures.all == Second(sent=3, lost=1, late=1, slowest=1.5)
    assert figures.last(60, 13.0) == [
        Second(sent=2, lost=1, slowest=0.25),
        Second(sent=1, late=1, slowest=1.5),
        Second(),
        Second(),
    ]
    assert figures.last(2, 13.0) == [Second(), Second()]


def test_what_is_in_flight_is_counted_again_when_it_has_ended() -> None:
    history = History()
    hangs = sent(10.0, takes=40.0, error="ReadTimeout")
    history.open_request(hangs)
    figures = figures_of(history, 11.0)
    assert figures.all == Second(sent=1, in_flight=1)
    figures.look(history, 30.0, 1.0)
    assert figures.all == Second(sent=1, in_flight=1)
    history.add_request(hangs)
    figures.look(history, 50.5, 1.0)
    assert figures.all == Second(sent=1, lost=1)


def test_looks_now_and_then_give_what_one_look_at_the_end_gives() -> None:
    history = head_failure().lose(0.0, 12.0).history()
    last = max(request.scheduled for request in history.requests)
    often, once = RequestFigures(-1e9), [r for r in history.requests if not r.kept]
    moment = min(request.scheduled for request in once)
    while moment < last + 1:
        moment += 0.7
        often.look(history, moment, 1.0)
    assert often.all.sent == len(once)
    assert often.all.lost == sum(request.lost for request in once)


def test_a_long_test_keeps_no_second_for_ever() -> None:
    history, figures = History(), RequestFigures(0.0)
    for at in range(0, 1000, 2):
        history.add_request(sent(float(at)))
        figures.look(history, at + 1.0, 1.0)
    assert figures.all.sent == 500
    assert len(figures._seconds) < 130


# -- lines ---------------------------------------------------------------------------------------------------------


def plain(lines: Sequence[str]) -> list[str]:
    """Without their styles."""
    return [re.sub(r"\x1b\[\d*m", "", line) for line in lines]


def cells(line: str) -> int:
    """The columns that a terminal takes."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in plain([line])[0]
    )


EXPERIMENT = View(
    test="test_losing_the_head",
    elapsed=83.4,
    expected=130.0,
    phase=Phase.WATCH,
    doing="redundancy is not back 12 s after the fault: node head is down",
    all=Second(sent=1204, lost=31, late=2, in_flight=3, slowest=1.3),
    last=[
        Second(20, slowest=0.012), Second(20, slowest=0.013), Second(20, lost=9, slowest=0.02),
        Second(20, in_flight=20), Second(20, slowest=1.3, late=2), Second(), Second(20, slowest=0.12),
    ],
    missing=[("head", 12.2), ("proxy on head", 11.9), ("controller", 9.0)],
)  # fmt: skip


def test_an_experiment_is_shown_in_six_lines() -> None:
    assert plain(frame(EXPERIMENT, 100)) == [
        "── test_losing_the_head ────────────────────────────────────────────────── 1:23, about 0:46 left ──",
        "  steady state > fault > recovery > post-recovery check > restore",
        "  redundancy is not back 12 s after the fault: node head is down",
        "  requests 1204 sent, 31 lost, 2 late, 3 in flight",
        "  latency  ▁▁x·█ ▄  120 ms, at most 1.3 s",
        "  missing  head, proxy on head for 12 s; controller for 9 s",
    ]


def test_the_phase_and_what_is_bad_stand_out() -> None:
    lines = frame(EXPERIMENT, 100)
    assert "\x1b[1mrecovery\x1b[0m" in lines[1]
    assert "\x1b[31m31 lost\x1b[0m" in lines[3]
    assert "\x1b[31mx\x1b[0m" in lines[4]


def test_what_is_not_known_has_no_line() -> None:
    assert plain(frame(View("test_it", 3.0, doing="kind: creating serve-chaos"), 60)) == [
        "── test_it ──────────────────────────────────────── 0:03 ──",
        "  kind: creating serve-chaos",
    ]


@pytest.mark.parametrize(
    ("elapsed", "expected", "words"),
    [(5.0, None, " 0:05 ──"), (3725.0, None, " 1:02:05 ──"), (90.0, 60.0, " 1:30, longer than expected ──")],
)
def test_the_time(elapsed: float, expected: float | None, words: str) -> None:
    assert plain(frame(View("test_it", elapsed, expected), 80))[0].endswith(words)


def test_latencies_that_hardly_differ_look_level() -> None:
    last = [Second(1, slowest=0.0100), Second(1, slowest=0.0104), Second(1, slowest=0.0099)]
    assert plain(frame(replace(EXPERIMENT, last=last), 100))[4] == "  latency  ▁▁▁  10 ms, at most 10 ms"


def test_names_and_answers_command_nothing() -> None:
    bad = "\x1b[2J\r\t\x1b]52;c;Y3VybA==\x07"
    lines = plain(frame(replace(EXPERIMENT, test=bad, doing=f"one\ntwo {bad}", missing=[(bad, 1.0)]), 200))
    assert len(lines) == 6
    assert not re.search("[\x00-\x1f]", "".join(lines))
    assert lines[2].startswith(r"  one\ntwo \x1b[2J\r \x1b]52")


@settings(max_examples=40)
@given(st.text(max_size=300), st.integers(1, 250), st.integers(0, 100_000))
def test_every_line_is_narrower_than_the_window(text: str, columns: int, number: int) -> None:
    second = Second(number, lost=number, in_flight=number, late=number, slowest=number / 7 + 0.001)
    view = replace(
        EXPERIMENT, test=text, doing=text, all=second, missing=[(text, float(number))], elapsed=float(number)
    )
    view = replace(view, last=[second, Second(1, slowest=0.01)] * (seconds_shown(columns) // 2))
    for line in frame(view, columns):
        assert cells(line) < columns
        assert line.count("\x1b[0m") * 2 == line.count("\x1b["), "each style ends"


# -- when it is there ----------------------------------------------------------------------------------------------


class Screen(LinesBelow):
    """Notes what is shown."""

    def __init__(self) -> None:
        self.now: list[str] = []
        self.error: type[Exception] | None = None
        self.lines = 24

    @property
    def size(self) -> os.terminal_size:
        return os.terminal_size((80, self.lines))

    @property
    def takes_more(self) -> bool:
        return True

    def show(self, lines: Sequence[str]) -> None:
        if self.error is not None:
            raise self.error
        self.now = plain(lines)

    def clear(self) -> None:
        self.now = []


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Callable[[LiveBlock], None]:
    """Has a block make its next frame at once, and none by itself."""

    class NoThread:
        def __init__(self, *_: object, **__: object) -> None:
            self.stopped = threading.Event()

        def start(self) -> None: ...

        def join(self, timeout: float) -> None: ...

    monkeypatch.setattr(block_module, "WatchThread", NoThread)

    def make_a_frame(block: LiveBlock) -> None:
        block._turn()

    return make_a_frame


def watched() -> Watched:
    return Watched(History(), 1.0, {})


def test_it_is_there_only_while_nobody_else_writes(shown: Callable[[LiveBlock], None]) -> None:
    block = LiveBlock(screen := Screen())
    block.begin("test_it", watched)
    shown(block)
    assert not screen.now, "nobody has said that it may be there"
    block.allow(True)
    shown(block)
    before = screen.now
    assert before[0].startswith("── test_it ")
    block.allow(False)
    assert not screen.now
    shown(block)
    assert not screen.now
    block.allow(True)
    assert screen.now == before, "at once, and not only with the next frame"
    block.end()
    assert not screen.now
    block.allow(True)
    shown(block)
    assert not screen.now


def test_it_shows_the_start_of_a_cluster_and_what_is_expected(shown: Callable[[LiveBlock], None]) -> None:
    block = LiveBlock(screen := Screen())
    block.allow(True)
    block.begin("test_it", lambda: None)
    block.at_the_moment("kuberay: still waiting for the head: ContainerCreating")
    shown(block)
    assert screen.now[1:] == ["  kuberay: still waiting for the head: ContainerCreating"]
    block.expect(65.0)
    shown(block)
    assert re.search(r" 0:00, about 1:0[45] left ──", screen.now[0])


def test_what_was_awaited_in_an_earlier_phase_is_not_shown_any_more(shown: Callable[[LiveBlock], None]) -> None:
    history = History()
    block = LiveBlock(screen := Screen())
    block.allow(True)
    block.begin("test_it", lambda: Watched(history, 1.0, {}))
    history.add(Demanded("what is demanded", expectations=Expectations()))
    history.add(PhaseBegan.of(Phase.WATCH))
    block.at_the_moment("waiting for the window to be full: 0 s of the window are left")
    shown(block)
    assert "  waiting for the window to be full: 0 s of the window are left" in screen.now
    history.add(PhaseBegan.of(Phase.POST_RECOVERY))
    shown(block)
    assert "window" not in "".join(screen.now)


def test_it_shows_what_the_history_says_of_this_test_alone(shown: Callable[[LiveBlock], None]) -> None:
    history = History()
    history.add(gone(clock.now() - 100.0, component("worker", "worker-1")))
    block = LiveBlock(screen := Screen())
    block.allow(True)
    block.begin("test_it", lambda: Watched(history, 1.0, {}))
    history.add(gone(clock.now(), component("head", "head")))
    history.add_request(sent(clock.now(), error="ConnectError"))
    history.add(PhaseBegan.of(Phase.WATCH))
    shown(block)
    assert screen.now[1] == "  requests 1 sent, 1 lost", "a test by hand has no phases"

    history.add(Demanded("", expectations=Expectations()))
    history.add_request(sent(clock.now(), error="ConnectError"))
    history.add(PhaseBegan.of(Phase.WATCH))
    shown(block)
    assert screen.now[1:3] == [
        "  steady state > fault > recovery > post-recovery check > restore",
        "  requests 1 sent, 1 lost",
    ]
    assert screen.now[-1] == f"  missing  {component('head', 'head').name} for 0 s"


def test_there_must_be_room_for_pytests_own_lines(shown: Callable[[LiveBlock], None]) -> None:
    block = LiveBlock(screen := Screen())
    block.allow(True)
    block.begin("test_it", watched)
    shown(block)
    assert screen.now
    screen.lines = 8
    shown(block)
    assert not screen.now


def test_a_terminal_that_is_gone_costs_nothing(shown: Callable[[LiveBlock], None]) -> None:
    block = LiveBlock(screen := Screen())
    block.allow(True)
    block.begin("test_it", watched)
    screen.error = BrokenPipeError
    shown(block)
    screen.error = None
    shown(block)
    assert not screen.now
    block.allow(False)
    block.end()


def test_it_follows_what_pytest_captures(pytester: pytest.Pytester) -> None:
    allowed: list[bool] = []

    class Block:
        def allow(self, now: bool) -> None:
            allowed.append(now)

    config = pytester.parseconfig()
    manager = config.pluginmanager.get_plugin("capturemanager")
    assert manager is not None
    follow(config, Block())
    manager.resume_global_capture()
    manager.suspend_global_capture(in_=True)
    manager.resume_global_capture()
    manager.stop_global_capturing()
    manager.resume_global_capture()
    assert allowed == [True, False, True, False, False]
