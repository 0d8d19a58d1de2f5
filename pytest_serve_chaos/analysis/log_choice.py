"""Which log lines around a fault are worth reading: some of each process, without those that say the same again."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from pytest_serve_chaos.masking import with_masked_secrets
from pytest_serve_chaos.model import LogLine
from pytest_serve_chaos.printable import one_line

LINES_OF_A_PROCESS = 12
LINES_ASIDE = 3
PROCESSES = 40
LINES = 240
"""Lines that are chosen at most, of one process, of one that is aside, of all; and of how many processes."""

WIDTH = 400
"""Characters of a line that are kept."""

_LOOKED_AT = 20_000
_LOOKED_AT_OF_A_PROCESS = 300
"""Lines that are looked at, those nearest to a moment: of all, and of each process at least. Each costs time."""

_PER_SECOND = 1 / 3.0
_BEFORE = 4.0
"""A line loses half of its worth in three seconds after a moment; before the first one, four times as fast."""

_DIFFERENT_EACH_TIME = re.compile(
    r"'[^']*'|\b[0-9a-f]{6,}(?:-[0-9a-f]+)*\b|\b(?=[a-z]*\d)[a-z0-9]{8}\b|\d+|\b[0-9a-fA-F]{16,}\b"
)
_NOISE = re.compile(
    r"""
    ^\s*$ | ^\s | ^[-:=*] | ^\d+\ pending | ^Global\ stats | ^Current\ usage     # what follows a line: tables, dumps
    | (?:GET|POST|PUT)\s\S+\s(?:[\w/.]+\s)?2\d\d                                # requests that were answered well
    | Event\ stats | debug\ (?:dump|string|state) | DeprecationWarning | Using\ HAProxy\ binary
    | is\ not\ installed | GPU\ profiling | GpuProfil | Token\ authentication\ is\ disabled | RAY_AUTH_MODE
    | ^\[state-dump\] | Traceback\ \(most | already\ started\ in\ worker\ pool | serve_chaos_canary | 'Canary'
    | Marking\ all\ running\ tasks | concurrency\ groups\ are | skipping\ Update | Overriding\ default
    """,
    re.VERBOSE | re.IGNORECASE,
)
_TIME = re.compile(r"\d\d:\d\d:\d\d")
"""What a line of its own has; others belong to the line before them, and are shown only where they are errors."""

_ERROR = re.compile(
    r"""
    \b(?:ERROR|CRITICAL|FATAL)\b | ,\d{3}\ [EF]\ \d | "(?:level|levelname)":\ ?"(?:error|fatal|critical)"
    | ^[\w.]+(?:Error|Exception)\b | Traceback | panic: | Segmentation\ fault
    """,
    re.VERBOSE,
)
_WARNING = re.compile(r"""\bWARN(?:ING)?\b|,\d{3} W \d|"(?:level|levelname)": ?"warn""")
_LIFE = re.compile(
    r"""
    start(?:ing|ed)\b | stopp(?:ing|ed)\b | shut(?:ting)?\s?down | terminat | kill | died | \bdead\b | destroy
    | exit(?:ed|ing) | recover | creat(?:ing|ed)\b | removed | disconnect | unavailable | unhealthy | health\ check
    | reload | failed | draining | (?:in|re)?registered\  | lost\b
    """,
    re.VERBOSE | re.IGNORECASE,
)

_ASIDE = re.compile(
    r"(?:^|/)(?:python-core-|dashboard|log_monitor|monitor|runtime_env|agent|event|admin\.sock|ray_client|worker-\w{20})"
    r"|controller_build_|serve_chaos_canary"
)
"""Files of processes that a failure of Serve seldom concerns, or that say again what others say."""


@dataclass(frozen=True, slots=True)
class LogChoice:
    """The lines that were chosen, in order of time, and how many were not."""

    lines: tuple[LogLine, ...]
    left_out: int


@dataclass(frozen=True, slots=True)
class _Rated:
    worth: float
    line: LogLine


def choose_lines(lines: Iterable[LogLine], moments: Sequence[float]) -> LogChoice:
    """The lines that best say what the processes did around some moments, masked and printable.

    Errors count most, then warnings, then starts and ends; what is near to a moment counts more. Of lines that differ
    in numbers and names alone, the one that counts most is chosen, and has their number.

    Args:
        lines: With their seconds from the fault.
        moments: Seconds from the fault: of itself, of the first loss, of the ends of outages.
    """
    by_process: dict[tuple[str, str], list[LogLine]] = {}
    seen = 0
    for line in lines:
        seen += 1
        by_process.setdefault((line.node, line.file), []).append(line)
    most = max(_LOOKED_AT_OF_A_PROCESS, _LOOKED_AT // max(1, len(by_process)))
    best = [_best(of_one, sorted(moments) or [0.0], most) for of_one in by_process.values()]
    best = sorted((rated for rated in best if rated), key=lambda rated: -rated[0].worth)[:PROCESSES]
    # In turns, so that one process that says much leaves room for the others.
    turns = (rated[turn] for turn in range(LINES_OF_A_PROCESS) for rated in best if turn < len(rated))
    chosen = [rated.line for rated, _ in zip(turns, range(LINES), strict=False)]
    shown = sum(line.times for line in chosen)
    return LogChoice(tuple(sorted(map(_shown, chosen), key=lambda line: line.seconds)), seen - shown)


def shape_of(text: str) -> str:
    """What two lines have in common that differ only in numbers, ids and quoted names."""
    return _DIFFERENT_EACH_TIME.sub("#", text)


def _best(lines: list[LogLine], moments: Sequence[float], most: int) -> list[_Rated]:
    """Those of one process that are worth most, without those that say the same, the best first."""
    if len(lines) > most:  # dumps of a whole state are many lines, and crowd out what is near
        lines = [line for line in lines if _says_something(line.text[:WIDTH])]
        lines = sorted(lines, key=lambda line: _distance(line.seconds, moments))[:most]
    rated = [_Rated(worth, line) for line in lines if (worth := _worth(line, moments))]
    rated.sort(key=lambda one: (-one.worth, one.line.seconds))
    by_shape: dict[str, _Rated] = {}
    times: dict[str, int] = {}
    for one in rated:
        shape = shape_of(one.line.text[:WIDTH])
        by_shape.setdefault(shape, one)
        times[shape] = times.get(shape, 0) + 1
    best = [_Rated(one.worth, replace(one.line, times=times[shape])) for shape, one in by_shape.items()]
    return best[: LINES_ASIDE if rated and _ASIDE.search(rated[0].line.file) else LINES_OF_A_PROCESS]


def _says_something(text: str) -> bool:
    """Whether it may be worth anything, at a quick look."""
    return _TIME.search(text) is not None or any(word in text for word in ("Error", "Exception", "ERROR", "WARN"))


def _worth(line: LogLine, moments: Sequence[float]) -> float:
    weight = _weight(line.text[:WIDTH])
    if not weight:
        return 0.0
    aside = 0.3 if _ASIDE.search(line.file) else 1.0
    return weight * aside / (1.0 + _distance(line.seconds, moments) * _PER_SECOND)


def _weight(text: str) -> float:
    if _NOISE.search(text):
        return 0.0
    if _ERROR.search(text):
        return 4.0
    if _WARNING.search(text):
        return 2.5
    if _TIME.search(text) is None:
        return 0.0
    return 2.0 if _LIFE.search(text) else 0.5


def _distance(seconds: float, moments: Sequence[float]) -> float:
    """Seconds to the nearest moment, of which those before the first count more."""
    if seconds < moments[0]:
        return (moments[0] - seconds) * _BEFORE
    after = bisect_left(moments, seconds)
    nearest = moments[max(0, after - 1) : after + 1]
    return min(abs(seconds - moment) for moment in nearest)


def _shown(line: LogLine) -> LogLine:
    text = one_line(with_masked_secrets(line.text[: 2 * WIDTH].rstrip()))  # what is cut here is cut again below
    return replace(
        line,
        seconds=round(line.seconds, 3),
        node=one_line(line.node)[:100],
        file=one_line(line.file)[:200],
        text=text if len(text) <= WIDTH else f"{text[:WIDTH]}...",
    )
