"""Time: one monotonic clock for requests and events, durations as users write them, and waiting with a deadline."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TypeVar

from pytest_serve_chaos.errors import ObservationError, SettingsError, WaitTimeout

T = TypeVar("T")

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
_DURATION = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|min|m|h)?\s*")


def now() -> float:
    """Seconds on the monotonic clock, which all processes of one Linux machine share."""
    return time.monotonic()


def wall_time() -> datetime:
    """The time of day in UTC, for people, and for what Kubernetes says of times; no figure is computed from it."""
    return datetime.now(timezone.utc)


def seconds(duration: float | int | str, *, name: str = "duration") -> float:
    """Turns what a user writes for a duration into seconds.

    Args:
        duration: A number of seconds, or text with a unit: ``"500ms"``, ``"20s"``, ``"2m"``, ``"1h"``.
        name: What the value is called where the user wrote it, for the message.

    Raises:
        SettingsError: It is negative, or not a duration.
    """
    if isinstance(duration, str):
        match = _DURATION.fullmatch(duration)
        if match:
            return float(match[1]) * _UNITS[match[2] or "s"]
    elif not isinstance(duration, bool) and duration >= 0:
        return float(duration)
    raise SettingsError(
        f"{name}: {duration!r} is not a duration",
        fix=["write seconds as a number (20), or a number with ms, s, m or h ('500ms', '20s', '2m')"],
    )


@dataclass(frozen=True, slots=True)
class NotYet:
    """What a probe returns while the awaited state is not there: the state that it saw instead."""

    seen: str


def patient(probe: Callable[[], T | NotYet]) -> Callable[[], T | NotYet]:
    """A probe for which an `ObservationError` counts as `NotYet`: an answer that is late says nothing of the matter."""

    def look() -> T | NotYet:
        try:
            return probe()
        except ObservationError as error:
            return NotYet(error.what)

    return look


def wait_until(
    what: str,
    probe: Callable[[], T | NotYet],
    *,
    timeout: float,
    interval: float = 0.2,
    checked: Sequence[str] = (),
    fix: Sequence[str] = (),
    on_wait: Callable[[float, str], None] | None = None,
) -> T:
    """Asks `probe` until it returns something else than `NotYet`.

    The probe is asked once more after the deadline, so that a machine that was busy is not blamed for it.

    Args:
        what: The awaited state, as it reads after "waited for".
        probe: Returns the awaited value, or `NotYet` with what it saw instead.
        timeout: Seconds until `WaitTimeout`.
        interval: Seconds between two probes.
        checked: Lines for the error's "Checked".
        fix: Lines for the error's "To fix this".
        on_wait: Called with the seconds waited and the state last seen, after each probe that failed.

    Raises:
        WaitTimeout: The deadline passed; the message has the state last seen.
    """
    start = now()
    while True:
        last_chance = now() - start >= timeout
        answer = probe()
        if not isinstance(answer, NotYet):
            return answer
        if last_chance:
            raise WaitTimeout(what, timeout=timeout, last_seen=answer.seen, checked=checked, fix=fix)
        if on_wait is not None:
            on_wait(now() - start, answer.seen)
        time.sleep(min(interval, max(0.0, start + timeout - now())))
