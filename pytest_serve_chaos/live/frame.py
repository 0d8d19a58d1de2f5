"""The lines that a terminal shows of a test that runs."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from pytest_serve_chaos.events import Phase
from pytest_serve_chaos.live.figures import Second
from pytest_serve_chaos.printable import one_line

SECONDS_SHOWN = 60
"""Of latency, one column each, where the window is wide enough."""

_STEPS = "▁▂▃▄▅▆▇█"
_LOST, _WAITING = "x", "·"
_LEAST_RANGE = 10.0
"""How many times the lowest step the highest one is at least, so that what hardly varies looks level."""

_BOLD, _DIM, _RED, _GREEN, _YELLOW = "1", "2", "31", "32", "33"
_MARGIN = 11
"""Columns before what a line says."""

_PHASES = (
    ("steady state", (Phase.STEADY,)),
    ("fault", (Phase.INJECT,)),
    ("recovery", (Phase.WATCH,)),
    ("post-recovery check", (Phase.POST_RECOVERY, Phase.GROWTH, Phase.HANDLES)),
    ("restore", (Phase.DONE,)),
)


@dataclass(frozen=True, slots=True)
class View:
    """What there is to show.

    Attributes:
        test: The name of the test.
        elapsed: Seconds since it began, or since its experiment did.
        expected: How many seconds it will take; None: that is not known.
        phase: Of the experiment; None outside of one.
        doing: How things are at the moment, in words.
        all: The requests since then.
        last: Those of the last seconds, second by second, the oldest first.
        missing: Who is gone and not back, each with the seconds since then.
    """

    test: str
    elapsed: float
    expected: float | None = None
    phase: Phase | None = None
    doing: str = ""
    all: Second = field(default_factory=Second)
    last: Sequence[Second] = ()
    missing: Sequence[tuple[str, float]] = ()


@dataclass(frozen=True, slots=True)
class _Piece:
    """Text in one style; "" for the usual one."""

    text: str
    style: str = ""


def frame(view: View, columns: int) -> list[str]:
    """The lines, each narrower than the window.

    Args:
        view: What there is to show.
        columns: The width of the window.
    """
    width = columns - 1
    lines = [_title(view, width)]
    if view.phase is not None:
        lines.append(_phases(view.phase))
    if view.doing:
        lines.append([_Piece("  " + _line(view.doing), _DIM)])
    if view.all.sent:
        lines.append(_requests(view.all))
    if view.last:
        lines.append(_latencies(view.last))
    if view.missing:
        lines.append(_missing(view.missing))
    return [_fitted(line, width) for line in lines]


def seconds_shown(columns: int) -> int:
    """Of how many seconds a window of that width shows the latency."""
    return max(1, min(SECONDS_SHOWN, columns - _MARGIN - len("  9999 ms, at most 9999 ms ")))


# -- lines ---------------------------------------------------------------------------------------------------------


def _title(view: View, width: int) -> list[_Piece]:
    """A rule with the name of the test on its left and the time on its right."""
    name, time = f"── {_line(view.test)} ", f" {_time(view)} ──"
    room = width - _cells(time)
    if room < len("── test"):
        return [_Piece(name, _BOLD)]
    name = _cut(name, room)
    return [_Piece(name, _BOLD), _Piece("─" * (room - _cells(name)), _DIM), _Piece(time, _BOLD)]


def _time(view: View) -> str:
    if view.expected is None:
        return _clock(view.elapsed)
    left = view.expected - view.elapsed
    return f"{_clock(view.elapsed)}, " + (f"about {_clock(left)} left" if left > 0 else "longer than expected")


def _phases(now: Phase) -> list[_Piece]:
    number = next((n for n, (_, phases) in enumerate(_PHASES) if now in phases), 0)
    pieces = [_Piece("  ")]
    for n, (name, _) in enumerate(_PHASES):
        if n:
            pieces.append(_Piece(" > ", _DIM))
        pieces.append(_Piece(name, _BOLD if n == number else _GREEN if n < number else _DIM))
    return pieces


def _requests(all_: Second) -> list[_Piece]:
    pieces = [_Piece("  requests ", _DIM), _Piece(f"{all_.sent} sent"), _Piece(", ")]
    pieces.append(_Piece(f"{all_.lost} lost", _RED if all_.lost else ""))
    if all_.late:
        pieces.append(_Piece(f", {all_.late} late", _YELLOW))
    if all_.in_flight:
        pieces.append(_Piece(f", {all_.in_flight} in flight"))
    return pieces


def _latencies(last: Sequence[Second]) -> list[_Piece]:
    slowest = [second.slowest for second in last if second.slowest]
    pieces = [_Piece("  latency  ", _DIM), *_sparkline(last)]
    if slowest:
        pieces.append(_Piece(f"  {_latency(slowest[-1])}, at most {_latency(max(slowest))}"))
    return pieces


def _sparkline(last: Sequence[Second]) -> list[_Piece]:
    """A column a second: how long its slowest good answer took, by the logarithm, unless requests were lost then."""
    slowest = [second.slowest for second in last if second.slowest]
    low, high = (min(slowest), max(slowest)) if slowest else (1.0, 1.0)
    scale = math.log(max(high / low, _LEAST_RANGE))
    pieces = []
    for second in last:
        if second.lost:
            pieces.append(_Piece(_LOST, _RED))
        elif second.slowest:
            step = round(math.log(second.slowest / low) / scale * (len(_STEPS) - 1))
            pieces.append(_Piece(_STEPS[step], _YELLOW if second.late else _GREEN))
        else:
            pieces.append(_Piece(_WAITING if second.in_flight else " ", _DIM))
    return pieces


def _missing(missing: Iterable[tuple[str, float]]) -> list[_Piece]:
    since: dict[str, list[str]] = {}
    for name, seconds in missing:
        since.setdefault(f"{max(0.0, seconds):.0f} s", []).append(_line(name))
    words = "; ".join(f"{', '.join(names)} for {seconds}" for seconds, names in since.items())
    return [_Piece("  missing  ", _DIM), _Piece(words, _RED)]


def _line(text: str) -> str:
    """What others have named or said, in one line in which each character takes its own columns."""
    return one_line(text).replace("\t", " ")


# -- words ---------------------------------------------------------------------------------------------------------


def _clock(seconds: float) -> str:
    minutes, rest = divmod(max(0, math.floor(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _latency(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.3g} s"


# -- widths --------------------------------------------------------------------------------------------------------


def _fitted(pieces: Iterable[_Piece], width: int) -> str:
    """The line as a terminal takes it, cut to the width; each style ends with its text."""
    line, left = "", width
    for piece in pieces:
        text = _cut(piece.text, left)
        left -= _cells(text)
        line += f"\x1b[{piece.style}m{text}\x1b[0m" if piece.style and text else text
        if text != piece.text:
            break
    return line


def _cut(text: str, cells: int) -> str:
    """The text, or as much of it as fits before an ellipsis."""
    if _cells(text) <= cells:
        return text
    kept, left = "", cells - 1
    for character in text:
        left -= _cells(character)
        if left < 0:
            break
        kept += character
    return f"{kept}…" if cells > 0 else ""


def _cells(text: str) -> int:
    """How many columns a terminal takes for it, at most."""
    return len(text) if text.isascii() else sum(map(_cell, text))


def _cell(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
