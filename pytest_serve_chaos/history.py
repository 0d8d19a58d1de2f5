"""The append-only record of a run, requests and events on one clock; everything reported is computed from it."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import TypeAlias, TypeVar

from pytest_serve_chaos import __version__, clock
from pytest_serve_chaos.errors import HistoryError
from pytest_serve_chaos.events import Demanded, Event, Judged, has, of_kind
from pytest_serve_chaos.json_records import event_from_json, event_to_json, request_from_json, request_to_json
from pytest_serve_chaos.line_file import LineFile, read_bytes
from pytest_serve_chaos.model import UNFINISHED, Json, Request
from pytest_serve_chaos.request_pieces import IN_MEMORY, Piece, RequestPieces, requests_of

E = TypeVar("E", bound=Event)

FORMAT = 1
READ_BY: Mapping[int, str] = MappingProxyType({1: ">=0.1"})
"""The versions of this package that read each format. With a new format, that of the one before gets an upper bound."""

_Flight: TypeAlias = tuple[str, str, int, float]
"""What tells a request in flight from every other: its source, its stream, its index and when it was scheduled."""


class History:
    """Requests and events of a run, kept in memory and written to a file as JSON lines.

    Requests in flight are kept in memory only; the file has those that have ended. Older ones are in the file alone,
    and are read from it where they are asked for, except for those of an experiment that is not judged yet. Threads
    may add to it at the same time. Times in memory are monotonic seconds; in the file they are seconds since the
    history began, and the first line says when that was.

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
        self._requests = RequestPieces(in_memory)
        self._in_flight: dict[_Flight, Request] = {}
        self._events: list[Event] = []
        self._of: dict[str, list[Event]] = {}
        self._judging = ("", math.inf)
        self._lock = threading.Lock()
        self._file = None if path is None else LineFile(path)
        self._lines = 0
        self._size = 0
        self.began: datetime | None = clock.wall_time()
        began = self.began.isoformat()
        self._write(lambda: {"type": "history", "format": FORMAT, "version": __version__, "began": began})

    @property
    def unwritten(self) -> str:
        """Why the file lacks what came last, as on a full disk; "" if it lacks nothing.

        In memory all is there: to add to a history never fails, for what is broken has to be healed whatever can be
        written.
        """
        return "" if self._file is None else self._file.problem

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
            in_flight = self._pending(at, source) if with_pending else []
            pieces = self._requests.ended_since(at)
        return (*self._found(pieces, at, math.inf, source), *_until_now(in_flight))

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
        return self._found(pieces, begin, end, source)

    def _found(
        self, pieces: list[tuple[Piece, list[Request] | None]], begin: float, end: float, source: str | None
    ) -> Iterator[Request]:
        for piece, requests in pieces:
            if piece.first_due <= end:
                for request in self._read(piece) if requests is None else requests:
                    if begin <= request.scheduled <= end and source in (None, request.source):
                        yield request

    def _read(self, piece: Piece) -> list[Request]:
        return requests_of(piece, self._bytes, self.origin)

    def _bytes(self, begin: int, end: int) -> bytes:
        if self._file is not None:
            return self._file.read(begin, end)
        assert self.path is not None  # without a file all is in memory
        return read_bytes(self.path, begin, end)

    def pending(self, source: str | None = None) -> tuple[Request, ...]:
        """The requests that have left and not ended, as if they ended now, with the error `model.UNFINISHED`.

        Args:
            source: Only those that this traffic sent; None: those of all.
        """
        with self._lock:
            in_flight = self._pending(-math.inf, source)
        return _until_now(in_flight)

    def _pending(self, at: float, source: str | None) -> list[Request]:
        return [r for r in self._in_flight.values() if r.scheduled >= at and source in (None, r.source)]

    @property
    def events(self) -> tuple[Event, ...]:
        """All events, in the order in which they were added."""
        with self._lock:
            return tuple(self._events)

    def open_request(self, request: Request) -> None:
        """Notes that a request has left. It is pending until `add_request` gets what became of it."""
        with self._lock:
            self._in_flight[_flight(request)] = request

    def add_request(self, request: Request) -> None:
        """Appends a request that has ended."""
        with self._lock:
            self._in_flight.pop(_flight(request), None)
            piece = self._requests.add(request, self._lines + 1)
            times = ("scheduled", "sent", "finished")
            self._write(lambda: {"type": "request", **self._relative(request_to_json(request), *times)}, piece)
            if self._file is not None:
                self._requests.free(self._file.lines, self._judging[1])

    def add(self, event: E) -> E:
        """Appends an event."""
        with self._lock:
            self._keep(event)
            # Serialized here: the caller gets the error for what cannot be JSON.
            line = _line({"type": "event", **self._relative(event_to_json(event), "at")})
            if self._file is not None:
                self._lines += 1
                self._file.add(lambda: self._measured(line), at_once=True)
        return event

    def _keep(self, event: Event) -> None:
        self._events.append(event)
        self._of.setdefault(event.experiment, []).append(event)
        # The requests of an experiment are needed until it is judged. Traffic by hand may go on for hours.
        name, is_same = event.experiment, event.experiment == self._judging[0]
        if isinstance(event, Demanded) and not event.source and not is_same:
            self._judging = (name, event.at)
        elif name and (isinstance(event, Judged) or not is_same):
            self._judging = ("", math.inf)

    def of(self, experiment: str) -> tuple[Event, ...]:
        """The events of one experiment."""
        with self._lock:
            return tuple(self._of.get(experiment, ()))

    def experiments(self) -> tuple[str, ...]:
        """The names of the experiments, in the order in which they began."""
        with self._lock:
            return tuple(name for name in self._of if name)

    def close(self) -> None:
        """Writes what is not in the file yet, and closes it; the history stays readable.

        What is added later is in memory only.
        """
        if self._file is not None:
            self._file.close()

    def flush(self) -> None:
        """Waits until the file has all that was added."""
        if self._file is not None:
            self._file.flush()

    def _write(self, record: Callable[[], Mapping[str, object]], piece: Piece | None = None) -> None:
        if self._file is not None:
            self._lines += 1
            self._file.add(lambda: self._measured(_line(record()), piece))

    def _measured(self, line: str, piece: Piece | None = None) -> str:
        """A line that is about to be written; its place in the file is noted. Lines are ASCII."""
        begin, self._size = self._size, self._size + len(line) + 1
        if piece is not None:
            piece.written(begin, self._size)
        return line

    def _relative(self, record: dict[str, Json], *times: str) -> dict[str, Json]:
        for name in times:
            value = record[name]
            if isinstance(value, float):
                record[name] = round(value - self.origin, 6)
        return record

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
        history.path = path
        history.origin = 0.0
        try:
            with path.open("rb") as file:
                header = file.readline()
                _check_format(header.decode("utf-8"), path)
                history.began = _time_of_day(_header(header.decode("utf-8")).get("began"))
                history._size = len(header)
                for number, line, record in _records(file, path):
                    try:
                        history._restore(record, len(line))
                    except ValueError as error:
                        raise HistoryError(f"{path}: line {number}: {error}") from error
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            raise HistoryError(f"the history {path} cannot be read: {why}", fix=[_which_file(path)]) from error
        return history

    def _restore(self, record: object, length: int) -> None:
        """Adds a record of the file; a kind of record that only a newer version knows is left out.

        Args:
            record: What was read.
            length: Of its line in bytes, with the line's end.
        """
        begin, self._size = self._size, self._size + length
        if not isinstance(record, dict):
            raise ValueError(f"it is not a JSON object: {repr(record)[:60]}")
        if "type" not in record:
            raise ValueError("it has no 'type'")
        if record["type"] == "request":
            self._requests.add(request_from_json(record), 0).written(begin, self._size)
            self._requests.free(0, math.inf)
        elif record["type"] == "event":
            self._keep(event_from_json(record))


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


def _line(record: Mapping[str, object]) -> str:
    return json.dumps(record, separators=(",", ":"))


def _flight(request: Request) -> _Flight:
    # Indexes begin again with new traffic, and some of the traffic before may still be in flight.
    return request.source, request.stream, request.index, request.scheduled


def _until_now(in_flight: Iterable[Request]) -> tuple[Request, ...]:
    now = clock.now()
    return tuple(replace(request, finished=now, error=UNFINISHED) for request in in_flight)


def _which_file(path: Path) -> str:
    """The file that was meant, where a run's directory was given."""
    inside = path / "history.jsonl"
    return (
        f"give {inside}" if inside.is_file() else "give the file history.jsonl of a run's directory under .serve-chaos/"
    )


def _check_format(line: str, path: Path) -> None:
    header = _header(line)
    found = header.get("format")
    if not isinstance(found, int) or header.get("type") != "history":
        raise HistoryError(
            f"{path} is not a history of format {FORMAT}",
            checked=[f"its first line: {line[:120]!r}"],
            fix=[_which_file(path)],
        )
    if found != FORMAT:
        raise _of_another_format(path, found, header.get("version"))


def _header(line: str) -> dict[str, object]:
    try:
        header = json.loads(line)
    except ValueError:
        return {}
    return header if isinstance(header, dict) else {}


def _time_of_day(value: object) -> datetime | None:
    try:
        found = datetime.fromisoformat(str(value))
    except ValueError:
        return None
    return found if found.tzinfo is not None else None


def _of_another_format(path: Path, found: int, version: object) -> HistoryError:
    """What to say of a history that other versions of this package can read: that which wrote it among them."""
    writer = version if isinstance(version, str) else ""
    age, least = ("an older", "==") if found < FORMAT else ("a newer", ">=")
    readers = READ_BY.get(found) or (least + writer if writer else "")
    here = f"pytest-serve-chaos {__version__} reads format {FORMAT}"
    return HistoryError(
        f"{path} is a history of format {found}, which {age} version wrote",
        checked=[f"its first line: written by pytest-serve-chaos {writer or 'of an unknown version'}", here],
        fix=[f"read it with another version: pip install 'pytest-serve-chaos{readers}'"]
        if readers
        else ["read it with the version that wrote it"],
    )


def _records(lines: Iterable[bytes], path: Path) -> Iterator[tuple[int, bytes, object]]:
    """Each line with its number and what it says."""
    for number, line in enumerate(lines, start=2):
        text = line.decode("utf-8")
        try:
            record = json.loads(text)
        except RecursionError:
            raise HistoryError(f"{path}: line {number} is nested too deeply: {text[:80]!r}") from None
        except ValueError:
            # The last line of a run that was killed may be cut; any other broken line is an error.
            if text.endswith("\n"):
                raise HistoryError(f"{path}: line {number} is not JSON: {text[:80]!r}") from None
            return
        yield number, line, record
