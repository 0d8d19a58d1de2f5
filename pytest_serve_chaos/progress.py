"""Says what goes on while something takes long: all the time where that can be shown, else in a line now and then."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Protocol, runtime_checkable

from pytest_serve_chaos import clock

REPORT_EVERY = 15.0
"""Seconds between two lines about the same thing."""

SHOW_EVERY = 1.0
"""Seconds after which what is shown of something that has no probe is brought up to date."""


@runtime_checkable
class LiveProgress(Protocol):
    """What prints lines, and may also be able to show how things are at the moment, so that no line is needed."""

    def __call__(self, line: str) -> None:
        """Prints a line, which stays."""

    @property
    def is_live(self) -> bool:
        """Whether it shows how things are at the moment."""

    def at_the_moment(self, text: str) -> None:
        """Shows how things are, until they change or a line is printed."""

    def expect(self, seconds: float) -> None:
        """Shows how much of that time is left, from now on."""


def shown_by(progress: Callable[[str], None]) -> LiveProgress | None:
    """What shows how things are at the moment; None where only lines can be printed."""
    return progress if isinstance(progress, LiveProgress) and progress.is_live else None


@contextlib.contextmanager
def still(
    doing: str, progress: Callable[[str], None], seen: Callable[[], str] = lambda: "", *, who: str
) -> Iterator[None]:
    """Says now and then that something that has no probe is still going on, where that takes long.

    Args:
        doing: What is done, as it reads after "still".
        progress: Prints a line, or shows it; called from another thread.
        seen: Returns what is known of it at that moment; "" if nothing is.
        who: What each line begins with, before a colon.
    """
    begun, ended, live = clock.now(), threading.Event(), shown_by(progress)

    def tell() -> None:
        while not ended.wait(REPORT_EVERY if live is None else SHOW_EVERY):
            known = seen()
            after = f"after {clock.now() - begun:.0f} s" + (f": {known}" if known else "")
            if live is None:
                progress(f"{who}: still {doing} {after}")
            else:
                live.at_the_moment(f"{who}: {doing}, {after}")

    if live is not None:
        live.at_the_moment(f"{who}: {doing}")
    teller = threading.Thread(target=tell, name="serve-chaos-progress", daemon=True)
    teller.start()
    try:
        yield
    finally:
        ended.set()
        teller.join()


def now_and_then(progress: Callable[[str], None], words: Callable[[str], str]) -> Callable[[float, str], None]:
    """An `on_wait` for `clock.wait_until` that prints what was seen every `REPORT_EVERY` seconds, or shows it always.

    Args:
        progress: Prints a line, or shows it.
        words: Makes a line of what was seen.
    """
    told, live = 0.0, shown_by(progress)

    def on_wait(waited: float, seen: str) -> None:
        nonlocal told
        if live is not None:
            live.at_the_moment(words(seen))
        elif waited - told >= REPORT_EVERY:
            told = waited
            progress(words(seen))

    return on_wait


def while_waiting(progress: Callable[[str], None], what: str) -> Callable[[float, str], None]:
    """An `on_wait` for a wait of which nothing is printed, that shows what is waited for where it can be shown.

    Args:
        progress: Shows it.
        what: As it reads after "waiting for".
    """
    live = shown_by(progress)

    def on_wait(_: float, seen: str) -> None:
        if live is not None:
            live.at_the_moment(f"waiting for {what}: {seen}")

    return on_wait


def say_how_long(progress: Callable[[str], None], text: str, seconds: float) -> None:
    """Says how long something will take, and why.

    Args:
        progress: Prints it, or shows it with the time that is left.
        text: For people.
        seconds: How long it will take from now on.
    """
    live = shown_by(progress)
    if live is None:
        progress(text)
    else:
        live.expect(seconds)
        live.at_the_moment(text)
