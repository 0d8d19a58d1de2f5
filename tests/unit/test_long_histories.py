"""A history of many hours: what is judged is on disk alone, memory does not grow, and verdicts are the same."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_serve_chaos import clock
from pytest_serve_chaos.cluster.kubernetes.logs.files import LogFiles
from pytest_serve_chaos.errors import HistoryError
from pytest_serve_chaos.events import Demanded, Judged, Note
from pytest_serve_chaos.history import History
from pytest_serve_chaos.model import Expectations, Request
from pytest_serve_chaos.request_pieces import OF_A_PIECE
from pytest_serve_chaos.results import result_of
from pytest_serve_chaos.traffic.recorder import Recorder
from pytest_serve_chaos.traffic.request import Message, Outcome
from tests.unit.histories import Story, head_failure, node_failure
from tests.unit.rigs import rig_around
from tools.soak_memory import Soak, simulate, slope

MANY = 4 * OF_A_PIECE


def request(number: int, source: str = "") -> Request:
    due = 1000.0 + number / 200
    return Request(number, "fresh", due, due, due + 0.01, 200, replica="a#B#1", source=source)


def filled(history: History, *, source: str = "", first: int = 0) -> list[Request]:
    """Adds many requests; returns them."""
    sent = [request(first + number, source) for number in range(MANY)]
    for number, one in enumerate(sent):
        history.add_request(one)
        if number % OF_A_PIECE == 0:
            history.flush()  # in a run the thread that writes has the time for it
    return sent


def test_the_older_requests_are_in_the_file_alone_and_can_still_be_read(tmp_path: Path) -> None:
    history = History(tmp_path / "history.jsonl", in_memory=100)
    sent = filled(history)
    assert history.in_memory <= 2 * OF_A_PIECE
    found = history.requests
    assert [(r.index, r.replica, r.status) for r in found] == [(r.index, r.replica, r.status) for r in sent]
    assert max(abs(a.finished - b.finished) for a, b in zip(found, sent, strict=True)) < 1e-5
    assert [r.index for r in history.requests_since(sent[5].scheduled - 0.001)] == list(range(5, MANY))
    history.close()
    assert len(history.requests) == MANY


def test_only_what_was_asked_for_is_read(tmp_path: Path) -> None:
    history = History(tmp_path / "history.jsonl", in_memory=100)
    sent = filled(history)
    between = history.requests_between(sent[10].scheduled - 0.001, sent[12].scheduled + 0.001)
    assert [r.index for r in between] == [10, 11, 12]
    assert not list(history.requests_between(0.0, math.inf, "another traffic"))
    history.close()


def test_the_requests_of_an_experiment_are_in_memory_until_it_is_judged(tmp_path: Path) -> None:
    history = History(tmp_path / "history.jsonl", in_memory=100)
    history.add(Demanded("demanded", at=999.0, experiment="test_a", expectations=Expectations()))
    filled(history)
    assert history.in_memory == MANY
    history.add(Judged("passed", at=2000.0, experiment="test_a"))
    filled(history, first=MANY)
    assert history.in_memory <= 4 * OF_A_PIECE
    history.close()


@pytest.mark.parametrize("before", [False, True])
def test_traffic_by_hand_that_is_long_past_is_not_in_memory(tmp_path: Path, *, before: bool) -> None:
    history = History(tmp_path / "history.jsonl", in_memory=100)
    if before:  # an experiment that an error ended, so that nobody judged it
        history.add(Demanded("demanded", at=999.0, experiment="test_a", expectations=Expectations()))
    history.add(Note("by hand", at=999.5, experiment="test_a-by-hand"))
    filled(history, source="traffic-1")
    assert history.in_memory <= 2 * OF_A_PIECE
    history.close()


def test_what_is_not_in_the_file_stays_in_memory() -> None:
    full, without = History(Path("/dev/full"), in_memory=100), History(in_memory=100)
    for history in (full, without):
        filled(history)
        assert history.in_memory == len(history.requests) == MANY
        history.close()


def test_a_file_that_somebody_removed_can_be_read_while_the_run_goes_on(tmp_path: Path) -> None:
    history = History(tmp_path / "history.jsonl", in_memory=100)
    filled(history)
    (tmp_path / "history.jsonl").unlink()
    assert len(history.requests) == MANY
    history.close()


def test_a_file_that_was_changed_is_an_error_and_no_verdict(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    history = History(path)
    filled(history)
    history.close()
    loaded = History.load(path, in_memory=100)
    path.write_text("cut off\n")
    with pytest.raises(HistoryError, match="the history was changed while it was in use"):
        _ = loaded.requests


@pytest.mark.parametrize("story", [head_failure, node_failure])
def test_a_history_from_which_little_is_in_memory_has_the_same_verdicts(tmp_path: Path, story: Story) -> None:
    path = tmp_path / "history.jsonl"
    told = story()  # type: ignore[operator]
    history = History(path)
    told.add_to(history)
    told.add_to(history, later=500.0)
    history.close()
    whole, little = (History.load(path, in_memory=many) for many in (10**9, 100))
    assert little.in_memory < whole.in_memory == len(little.requests)
    assert result_of(little, told.experiment) == result_of(whole, told.experiment)


def test_memory_does_not_grow_with_the_requests_of_a_soak(tmp_path: Path) -> None:
    soak = Soak(seconds=100, rate=100, experiment=5, in_memory=2000)
    blocks, _ = slope(list(simulate(soak, tmp_path / "history.jsonl")))
    assert blocks < 1  # a request in memory takes five, and one event comes with 100 requests


def test_names_in_answers_are_one_text_and_not_longer_than_names_are() -> None:
    history = History()
    recorder = Recorder(history)
    for number in range(2):
        flight = recorder.leave(number, "fresh", 0.0, Message())
        recorder.end(
            flight,
            Outcome(
                1.0, 500, "HTTP 500", replica="r" * (9_000 + number), node=f"{number:0>3}"[:2], request_id="i" * 9_000
            ),
        )
    first, second = history.requests
    assert first.replica is second.replica
    assert first.node is second.node
    assert len(first.replica or "") == len(first.request_id) == 300


def test_how_late_the_generator_is_takes_no_more_memory_after_hours() -> None:
    recorder = Recorder(History())
    for number in range(20_000):
        recorder.end(recorder.leave(number, "fresh", 0.0, Message()), Outcome(1.0, status=200))
    assert len(recorder._lags) == 10_000


def test_requests_are_moved_by_when_the_history_began(tmp_path: Path) -> None:
    history = History(tmp_path / "history.jsonl", in_memory=1)
    unsent = replace(request(0), sent=None)
    history.add_request(unsent)
    filled(history, first=1)
    first = history.requests[0]
    assert first.sent is None
    assert first.scheduled == pytest.approx(unsent.scheduled, abs=1e-5)
    history.close()


def test_the_places_of_log_lines_that_nobody_reads_any_more_are_forgotten(tmp_path: Path) -> None:
    files = LogFiles(tmp_path)
    for number in range(1500):
        files.add("serve/proxy.log", f"{number} {'x' * 4000}\n")
    assert len(files._files["serve/proxy.log"].pieces) < 1100
    (last,) = [line.text for line in files.lines(["serve/*"], 0.0)][-1:]
    assert last.startswith("1499 ")


@pytest.mark.parametrize(("source", "since"), [("", 100.0), ("traffic-1", 4100.0)])
def test_who_serves_traffic_by_hand_is_shown_by_its_last_answers(
    monkeypatch: pytest.MonkeyPatch, source: str, since: float
) -> None:
    monkeypatch.setattr(clock, "now", lambda: 5000.0)
    traffic = rig_around().traffic
    traffic.steady_since = 100.0
    traffic.source = source
    assert traffic.steady_since == since
