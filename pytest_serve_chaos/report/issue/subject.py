"""What an issue is about: an experiment, and all that its history has of it."""

from __future__ import annotations

import hashlib
import shlex
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

from pytest_serve_chaos.analysis.record import run_event
from pytest_serve_chaos.analysis.result import Result
from pytest_serve_chaos.events import ClusterReady, Repeatable, TrafficBegan, of_kind
from pytest_serve_chaos.history import History
from pytest_serve_chaos.report.timeline import Timeline, timeline_of

_PIECE = 1 << 20

_OF_THE_AUTHOR = ("--serve-chaos-allow-context", "--serve-chaos-context", "--serve-chaos-url")

_ROUTE = "--serve-chaos-path"
"""Its value begins with / as well, and is no file."""


@dataclass(frozen=True, slots=True)
class HistoryFile:
    """The file of a history.

    Attributes:
        name: Its name, without a directory.
        size: Bytes.
        sha256: Its hash, in hexadecimal digits.
    """

    name: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Subject:
    """An experiment, for an issue.

    Attributes:
        result: What it gave.
        timeline: What its picture shows.
        ready: The cluster that was under test; None where the history does not say it.
        traffic: What was sent; None likewise.
        repeat: How its test is run again; None in a history of an older version.
        file: The file of the history; None of one that is in memory only.
    """

    result: Result
    timeline: Timeline
    ready: ClusterReady | None = None
    traffic: TrafficBegan | None = None
    repeat: Repeatable | None = None
    file: HistoryFile | None = None


def subject_of(history: History, result: Result) -> Subject:
    """What a history has of an experiment.

    Args:
        history: From a file, or of this run.
        result: What the experiment gave.

    Raises:
        HistoryError: Some requests are in the file alone, and it was changed.
        OSError: The file cannot be read.
    """
    events = history.of(result.experiment)
    return Subject(
        result=result,
        timeline=timeline_of(result, history),
        ready=run_event(history, result.experiment),
        traffic=next(iter(of_kind(TrafficBegan, events)), None),
        repeat=next(map(_for_strangers, of_kind(Repeatable, events)), None),
        file=None if history.path is None else _file(history.path),
    )


def without_directory(text: str) -> str:
    """The name of a file that is given by its absolute path; any other text as it is."""
    return PurePath(text).name if text.startswith("/") else text


def _for_strangers(repeat: Repeatable) -> Repeatable:
    """The same without the names of its author's contexts, hosts and directories: an issue is public."""
    return replace(
        repeat,
        text=shlex.join(map(_for_a_stranger, shlex.split(repeat.text))),
        options=tuple(map(_for_a_stranger, repeat.options)),
        on_local=tuple(map(_for_a_stranger, repeat.on_local)),
    )


def _for_a_stranger(word: str) -> str:
    option, equals, value = word.partition("=")
    if not equals or option == _ROUTE:
        return word
    return f"{option}={'...' if option in _OF_THE_AUTHOR else without_directory(value)}"


def _file(path: Path) -> HistoryFile:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
    return HistoryFile(path.name, path.stat().st_size, digest.hexdigest())
