"""No error ends a thread that watches, and one that ended all the same makes the test an error."""

from __future__ import annotations

import threading

import pytest

from pytest_serve_chaos.watch_thread import WatchThread


def run(*turns: float | BaseException, met: list[str] | None = None) -> WatchThread:
    """A thread that takes these turns, an exception as one that raises it, and then waits to be stopped."""
    left = list(turns)

    def turn() -> float:
        if not left:
            done.set()
            return 10.0
        one = left.pop(0)
        if isinstance(one, BaseException):
            raise one
        return one

    done = threading.Event()
    seen = [] if met is None else met
    thread = WatchThread("watch", turn, again_after=0.0, met=lambda error: seen.append(str(error)))
    thread.start()
    if all(not isinstance(one, BaseException) or isinstance(one, Exception) for one in turns):
        assert done.wait(10.0)
    else:
        thread.join(10.0)
    return thread


def test_no_error_ends_it() -> None:
    met: list[str] = []
    thread = run(KeyError("a"), 0.0, RecursionError("deep"), MemoryError("much"), AssertionError("odd"), met=met)
    assert met == ["'a'", "deep", "much", "odd"]
    assert thread.dead == ""
    thread.stopped.set()
    thread.join(10.0)
    assert thread.dead == ""


def test_one_that_ended_says_why() -> None:
    thread = run(0.0, SystemExit("a library called sys.exit"))
    assert thread.dead == "the thread watch ended: SystemExit: a library called sys.exit"


def test_one_whose_errors_cannot_be_told_says_why() -> None:
    def fail(error: Exception) -> None:
        raise TypeError("a note that cannot be written") from error

    thread = WatchThread("watch", lambda: 1 / 0, again_after=0.0, met=fail)
    thread.start()
    thread.join(10.0)
    assert thread.dead == "the thread watch ended: TypeError: a note that cannot be written"


@pytest.mark.parametrize("stopped", [False, True])
def test_one_that_never_began_is_not_dead(*, stopped: bool) -> None:
    thread = WatchThread("watch", lambda: 0.0, again_after=0.0)
    if stopped:
        thread.stopped.set()
    thread.join(1.0)
    assert thread.dead == ""
