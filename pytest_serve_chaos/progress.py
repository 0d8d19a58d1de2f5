"""Prints a line now and then while something takes long, so that it does not look like a hang."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

from pytest_serve_chaos import clock

REPORT_EVERY = 15.0
"""Seconds between two lines about the same thing."""


@contextlib.contextmanager
def still(
    doing: str, progress: Callable[[str], None], seen: Callable[[], str] = lambda: "", *, who: str
) -> Iterator[None]:
    """Says now and then that something that has no probe is still going on, where that takes long.

    Args:
        doing: What is done, as it reads after "still".
        progress: Prints a line; called from another thread.
        seen: Returns what is known of it at that moment; "" if nothing is.
        who: What each line begins with, before a colon.
    """
    begun, ended = clock.now(), threading.Event()

    def tell() -> None:
        while not ended.wait(REPORT_EVERY):
            known = seen()
            progress(f"{who}: still {doing} after {clock.now() - begun:.0f} s" + (f": {known}" if known else ""))

    teller = threading.Thread(target=tell, name="serve-chaos-progress", daemon=True)
    teller.start()
    try:
        yield
    finally:
        ended.set()
        teller.join()


def now_and_then(say: Callable[[float, str], None]) -> Callable[[float, str], None]:
    """An `on_wait` for `clock.wait_until` that passes on what was seen every `REPORT_EVERY` seconds."""
    told = 0.0

    def on_wait(waited: float, seen: str) -> None:
        nonlocal told
        if waited - told >= REPORT_EVERY:
            told = waited
            say(waited, seen)

    return on_wait
