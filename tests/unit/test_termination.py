"""The first signal is a Ctrl-C, and none after it keeps the run from healing what it broke."""

from __future__ import annotations

import importlib
import inspect
import signal
import sys

import pytest

from pytest_serve_chaos import clock, termination
from pytest_serve_chaos.termination import HEALED_WITHIN, PUT_OFF_AT_MOST, EndingSignals

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT]


class Clock:
    """A clock that goes on when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Clock:
    time = Clock()
    monkeypatch.setattr(clock, "now", time)
    return time


def interrupts(signals: EndingSignals, number: signal.Signals) -> bool:
    """Whether a signal interrupts what runs."""
    try:
        signals.handle(number, None)
    except KeyboardInterrupt:
        return True
    return False


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_is_a_ctrl_c_and_those_that_follow_wait_until_all_is_healed(
    number: signal.Signals, time: Clock
) -> None:
    signals = EndingSignals()
    assert interrupts(signals, number)
    time.now += 5
    assert not any(interrupts(signals, other) for other in SIGNALS)
    signals.healed()
    assert all(interrupts(signals, other) for other in SIGNALS)


def test_healing_that_hangs_can_be_interrupted_after_ten_seconds(time: Clock) -> None:
    signals = EndingSignals()
    assert interrupts(signals, signal.SIGTERM)
    time.now += HEALED_WITHIN - 0.1
    assert not interrupts(signals, signal.SIGINT)
    time.now += 0.1
    assert interrupts(signals, signal.SIGINT)


def test_one_signal_that_comes_twice_is_one(time: Clock) -> None:
    signals = EndingSignals()
    assert interrupts(signals, signal.SIGTERM)
    signals.healed()
    time.now += 0.05
    assert not interrupts(signals, signal.SIGTERM)


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The signals that are sent again."""
    sent: list[int] = []
    monkeypatch.setattr(termination, "_send_again", sent.append)
    return sent


class Asked:
    """The module finder of an import that sends a signal; nothing is found."""

    def __init__(self, signals: EndingSignals) -> None:
        self.interrupted: list[bool] = []
        self._signals = signals

    def find_spec(self, *_: object) -> None:
        try:
            self._signals.handle(signal.SIGINT, inspect.currentframe())
        except KeyboardInterrupt:
            self.interrupted.append(True)
        else:
            self.interrupted.append(False)


def test_an_import_that_does_not_end_is_interrupted_after_two_seconds(
    time: Clock, sent: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Asked(EndingSignals())
    monkeypatch.setattr(sys, "meta_path", [asked, *sys.meta_path])
    for _ in range(2):
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module("there_is_no_such_module")
        time.now += PUT_OFF_AT_MOST
    assert asked.interrupted == [False, True]
    assert sent == [signal.SIGINT]


def test_what_does_nothing_at_the_end_does_not_come_again_after_it(time: Clock, sent: list[int]) -> None:
    signals = EndingSignals()

    class Finalized:
        def __del__(self) -> None:
            signals.handle(signal.SIGTERM, inspect.currentframe())

    with signals.ending():
        Finalized()
    assert sent == []
    signals = EndingSignals()
    Finalized()
    assert sent == [signal.SIGTERM]


def test_at_the_end_only_a_ctrl_c_does_anything_and_only_to_the_step_in_hand(time: Clock) -> None:
    signals = EndingSignals()
    assert interrupts(signals, signal.SIGTERM)
    signals.healed()
    time.now += 5
    with signals.ending():
        assert not any(interrupts(signals, number) for number in SIGNALS)
        with signals.step():
            assert [number for number in SIGNALS if interrupts(signals, number)] == [signal.SIGINT]
        assert not any(interrupts(signals, number) for number in SIGNALS)
    assert [number for number in SIGNALS if interrupts(signals, number)] == [signal.SIGINT]


def test_handlers_of_others_and_signals_that_are_ignored_are_left_alone(pytestconfig: pytest.Config) -> None:
    before = {number: signal.getsignal(number) for number in SIGNALS}
    ends: list[object] = []
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setattr(type(pytestconfig), "add_cleanup", lambda _, end: ends.append(end))
    try:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signals = EndingSignals()
        signals.install(pytestconfig)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        assert signal.getsignal(signal.SIGTERM) == signals.handle
        (give_back,) = ends
        assert callable(give_back)
        give_back()
        assert signal.getsignal(signal.SIGTERM) is before[signal.SIGTERM]
    finally:
        monkeypatch.undo()
        for number, handler in before.items():
            signal.signal(number, handler)
