"""The append-only record of a run, requests and events on one clock; everything reported is computed from it."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import TypeAlias, TypeVar

from pytest_serve_chaos import clock
from pytest_serve_chaos.events import Demanded, Event, Judged, has, of_kind
from pytest_serve_chaos.history_file import HistoryFile, read_history
from pytest_serve_chaos.model import UNFINISHED, Request
from pytest_serve_chaos.request_pieces import IN_MEMORY, RequestPieces, scheduled_between

E = TypeVar("E", bound=Event)

_Flight: TypeAlias = tuple[str, str, int, float]
"""What tells a request in flight from every other: its source, its stream, its index and when it was scheduled."""


@dataclass(slots=True)
class _Events:
    """The events of a history.

    Attributes:
        all: In the order in which they were added.
        by_experiment: The same of each experiment, and of "".
        needed_since: Requests that were scheduled then or later are needed until an experiment is judged; monotonic
            seconds.
    """

    all: list[Event] = field(default_factory=list)
    by_experiment: dict[str, list[Event]] = field(default_factory=dict)
    needed_since: float = math.inf
    _judging: str = ""

    def add(self, event: Event) -> None:
        """Appends an event."""
        self.all.append(event)
        self.by_experiment.setdefault(event.experiment, []).append(event)
        # The requests of an experiment are needed until it is judged. Traffic by hand may go on for hours.
        name, is_same = event.experiment, event.experiment == self._judging
        if isinstance(event, Demanded) and not event.source and not is_same:
            self._judging, self.needed_since = name, event.at
        elif name and (isinstance(event, Judged) or not is_same):
            self._judging, self.needed_since = "", math.inf


class History:
    """Requests and events of a run, kept in memory and written to a file as JSON lines.

    Requests in flight are kept in memory only; the file has those that have ended. Older ones are in the file alone,
    and are read from it where they are asked for, except for those of an experiment that is not judged yet. Threads
    may add to it at the same time. Times in memory are monotonic seconds; in the file they are seconds since the
    history began, and the first line says when that was. How requests are kept, and how the file is written and read,
    is left to `RequestPieces` and `HistoryFile`; what it has itself is what others add to it, and ask of it.

    Args:
        path: The file; None keeps the history in memory only.
        in_memory: How many requests stay in memory at least, the newest.

    Attributes:
        path: The file; None: it has none.
        origin: The monotonic second at which it began; 0.0 where it was read from a file.
        began: The time of day then; None where the file does not say it.
    """

    def __init__(self, path: Path | None = None, *, in_memory: int = IN_MEMORY) -> None:
        self.path = path
        self.origin = clock.now()
        self.began: datetime | None = clock.wall_time()
        self._requests = RequestPieces(in_memory)
        self._in_flight: dict[_Flight, Request] = {}
        self._events = _Events()
        self._lock = threading.Lock()
        self._file = HistoryFile(path, origin=self.origin, began=self.began)

    @property
    def unwritten(self) -> str:
        """Why the file lacks what came last, as on a full disk; "" if it lacks nothing.

        In memory all is there: to add to a history never fails, for what is broken has to be healed whatever can be
        written.
        """
        return self._file.problem

    @property
    def requests(self) -> tuple[Request, ...]:
        """All requests that have ended, in the order in which they did; of a long run that is gigabytes."""
        return self.requests_since(-math.inf)

    @property
    def in_memory(self) -> int:
        """How many requests are in memory; the others are in the file alone."""
        return self._requests.in_memory

    def requests_since(
        self, at: float, source: str | None = None, *, with_pending: bool = False
    ) -> tuple[Request, ...]:
        """The requests scheduled at `at` or later that have ended; cheap, however long the history is.

        Args:
            at: Monotonic seconds.
            source: Only those that this traffic sent; None: those of all.
            with_pending: Also those in flight, as `pending` gives them, at the end. Two questions would miss, or count
                twice, those that end in between.

        Raises:
            HistoryError: Some are in the file alone, and it was changed.
        """
        with self._lock:
            in_flight = _chosen(self._in_flight.values(), at, source) if with_pending else []
            pieces = self._requests.ended_since(at)
        return (*scheduled_between(pieces, at, math.inf, source, self._file.requests_of), *_until_now(in_flight))

    def requests_between(self, begin: float, end: float, source: str | None = None) -> Iterator[Request]:
        """Those that were scheduled from then until then and have ended, one after the other as they are read.

        Args:
            begin: Monotonic seconds.
            end: Those scheduled at that moment are among them.
            source: Only those that this traffic sent; None: those of all.

        Raises:
            HistoryError: Some are in the file alone, and it was changed.
        """
        with self._lock:
            pieces = self._requests.ended_since(begin)
        return scheduled_between(pieces, begin, end, source, self._file.requests_of)

    def pending(self, source: str | None = None) -> tuple[Request, ...]:
        """The requests that have left and not ended, as if they ended now, with the error `model.UNFINISHED`.

        Args:
            source: Only those that this traffic sent; None: those of all.
        """
        with self._lock:
            in_flight = _chosen(self._in_flight.values(), -math.inf, source)
        return _until_now(in_flight)

    @property
    def events(self) -> tuple[Event, ...]:
        """All events, in the order in which they were added."""
        with self._lock:
            return tuple(self._events.all)

    def open_request(self, request: Request) -> None:
        """Notes that a request has left. It is pending until `add_request` gets what became of it."""
        with self._lock:
            self._in_flight[_flight(request)] = request

    def add_request(self, request: Request) -> None:
        """Appends a request that has ended."""
        with self._lock:
            self._in_flight.pop(_flight(request), None)
            piece = self._requests.add(request, self._file.next_line)
            self._file.add_request(request, piece)
            self._requests.free(self._file.readable, self._events.needed_since)

    def add(self, event: E) -> E:
        """Appends an event."""
        with self._lock:
            self._events.add(event)
            self._file.add_event(event)
        return event

    def of(self, experiment: str) -> tuple[Event, ...]:
        """The events of one experiment."""
        with self._lock:
            return tuple(self._events.by_experiment.get(experiment, ()))

    def experiments(self) -> tuple[str, ...]:
        """The names of the experiments, in the order in which they began."""
        with self._lock:
            return tuple(name for name in self._events.by_experiment if name)

    def close(self) -> None:
        """Writes what is not in the file yet, and closes it; the history stays readable.

        What is added later is in memory only.
        """
        self._file.close()

    def flush(self) -> None:
        """Waits until the file has all that was added."""
        self._file.flush()

    @classmethod
    def load(cls, path: Path, *, in_memory: int = IN_MEMORY) -> History:
        """Reads a history from its file; its times are then seconds since it began.

        Fields that a newer version added are left out.

        Args:
            path: The file.
            in_memory: How many requests stay in memory at least; the others are read again where they are asked for.

        Raises:
            HistoryError: The file is missing or not a history of this format, or a line of it cannot be used.
        """
        history = cls(in_memory=in_memory)
        history.path, history.origin = path, 0.0
        history._file = HistoryFile(path, origin=0.0, is_written=False)
        history.began, contents = read_history(path)
        for one, begin, end in contents:
            if isinstance(one, Request):
                history._requests.add(one, 0).written(begin, end)
                history._requests.free(0, math.inf)
            else:
                history._events.add(one)
        return history


@dataclass(frozen=True, slots=True)
class ExperimentLog:
    """The events of one experiment: writes them into a history, and finds them there.

    Attributes:
        history: Where they are.
        experiment: The name of the experiment.
    """

    history: History
    experiment: str

    def add(self, event: E) -> E:
        """Appends an event, as one of this experiment."""
        return self.history.add(replace(event, experiment=self.experiment))

    def of(self, kind: type[E], *, since: float = -math.inf) -> tuple[E, ...]:
        """The events of that kind at or after a moment, in the order in which they were added."""
        return tuple(event for event in of_kind(kind, self.history.of(self.experiment)) if event.at >= since)

    def since(self, moment: float) -> tuple[Event, ...]:
        """All its events at or after a moment, in the order in which they were added."""
        return tuple(event for event in self.history.of(self.experiment) if event.at >= moment)

    def has(self, *kinds: type[Event]) -> bool:
        """Whether it has an event of one of those kinds."""
        return has(kinds, self.history.of(self.experiment))


def _flight(request: Request) -> _Flight:
    # Indexes begin again with new traffic, and some of the traffic before may still be in flight.
    return request.source, request.stream, request.index, request.scheduled


def _until_now(in_flight: Iterable[Request]) -> tuple[Request, ...]:
    now = clock.now()
    return tuple(replace(request, finished=now, error=UNFINISHED) for request in in_flight)


def _chosen(in_flight: Iterable[Request], at: float, source: str | None) -> list[Request]:
    return [r for r in in_flight if r.scheduled >= at and source in (None, r.source)]
