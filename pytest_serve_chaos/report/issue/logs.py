"""Log lines around the fault, by process."""

from __future__ import annotations

from collections.abc import Iterator

from pytest_serve_chaos.model import LogLine
from pytest_serve_chaos.report.issue.subject import Subject
from pytest_serve_chaos.report.log_excerpts import ProcessLog, by_process
from pytest_serve_chaos.report.markdown_text import escaped, fenced, folded

_WIDTH = 240
_OPEN = 3
"""Processes whose lines are not folded."""

_FIRST = ("controller", "gcs_server", "proxy", "raylet", "replica", "HAProxy")
"""Processes that say most of a failure of Serve, in that order."""


def log_lines(subject: Subject, processes: int, lines: int) -> Iterator[str]:
    """Lines of so many processes, those first that say most of a failure of Serve.

    Args:
        subject: The experiment.
        processes: How many at most.
        lines: How many lines of each at most.
    """
    logs = by_process(subject.timeline.logs)
    if not logs:
        yield "The history has no log lines of that time."
        return
    ordered = sorted(logs, key=_rank)
    for number, log in enumerate(ordered[:processes]):
        block = [*fenced(_line(line) for line in _chosen(log, lines)), ""]
        yield from [f"**{escaped(log.name)}**", "", *block] if number < _OPEN else folded(log.name, block)
    left = ordered[processes:]
    if left:
        yield f"The history also has lines of {len(left)} other processes."


def _rank(log: ProcessLog) -> tuple[int, float]:
    place = next((number for number, name in enumerate(_FIRST) if log.name.startswith(name)), len(_FIRST))
    nearest = min((abs(line.seconds) for line in log.lines), default=0.0)
    return place, nearest


def _chosen(log: ProcessLog, most: int) -> list[LogLine]:
    """Those nearest to the fault and after it, in order of time."""
    nearest = sorted(log.lines, key=lambda line: line.seconds if line.seconds >= 0 else -4 * line.seconds)[:most]
    return sorted(nearest, key=lambda line: line.seconds)


def _line(line: LogLine) -> str:
    text = line.text if len(line.text) <= _WIDTH else f"{line.text[:_WIDTH]}..."
    return f"{line.seconds:+8.2f} s  {text}" + (f"  (x {line.times})" if line.times > 1 else "")
