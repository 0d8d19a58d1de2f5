"""Puts into the history what was logged around each fault, so that reports of it need no other file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pytest_serve_chaos.analysis.log_choice import choose_lines
from pytest_serve_chaos.cluster.test_logs import LogsOfTest
from pytest_serve_chaos.errors import in_one_line
from pytest_serve_chaos.events import (
    FaultAsked,
    FaultHealed,
    FaultLanded,
    LogsExcerpted,
    Note,
    ProxyStale,
    RedundancyBack,
    VictimEnded,
)
from pytest_serve_chaos.history import ExperimentLog, History

BEFORE = 5.0
AFTER = 180.0
"""Seconds before the fault, and after it at most, of which lines are looked at."""

_MOMENTS = (FaultAsked, VictimEnded, FaultLanded, FaultHealed, RedundancyBack, ProxyStale)
"""What lines are near to that are worth reading; and the first and the last lost request."""


def keep_log_lines(history: History, experiments: Iterable[str], logs: LogsOfTest) -> None:
    """Adds some log lines around the fault of each experiment that has one. It never fails: the test is over by then.

    Args:
        history: Of the run.
        experiments: Their names.
        logs: Of the test that they belong to.
    """
    for name in experiments:
        log = ExperimentLog(history, name)
        try:
            _keep(log, logs)
        except Exception as error:  # of files, of a cluster, of a plugin: what was measured is worth more than its logs
            log.add(Note(f"the log lines around the fault could not be kept: {in_one_line(error)}"))


def _keep(log: ExperimentLog, logs: LogsOfTest) -> None:
    asked = [event.at for event in log.of(FaultAsked)]
    if not asked or log.has(LogsExcerpted):
        return
    end = min(log.history.of(log.experiment)[-1].at, asked[-1] + AFTER)
    moments = [moment - asked[0] for moment in _moments(log, asked[0], end)]
    choice = choose_lines(logs.around(asked[0], before=BEFORE, after=end - asked[0]), moments)
    if choice.lines:
        text = f"{len(choice.lines)} log lines around the fault, {choice.left_out} left out"
        log.add(LogsExcerpted(text, lines=choice.lines, left_out=choice.left_out))


def _moments(log: ExperimentLog, asked: float, end: float) -> Iterator[float]:
    for kind in _MOMENTS:
        yield from (event.at for event in log.of(kind) if event.at <= end)
    lost = [request.finished for request in log.history.requests_between(asked, end) if request.lost]
    yield from lost[:1]
    yield from lost[1:][-1:]
