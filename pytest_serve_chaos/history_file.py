"""The file of a history: what is written to it while a run goes on, and what is read from it again."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from types import MappingProxyType

from pytest_serve_chaos import __version__
from pytest_serve_chaos.errors import HistoryError
from pytest_serve_chaos.events import Event
from pytest_serve_chaos.json_records import event_from_json, event_to_json, request_from_json, request_to_json
from pytest_serve_chaos.line_file import Line, LineFile, read_bytes
from pytest_serve_chaos.model import Json, Request
from pytest_serve_chaos.request_pieces import Piece, requests_of

FORMAT = 1
READ_BY: Mapping[int, str] = MappingProxyType({1: ">=0.1"})
"""The versions of this package that read each format. With a new format, that of the one before gets an upper bound."""


class HistoryFile:
    """The JSON lines of a history. Times in it are seconds since the history began.

    Its methods do nothing where there is no file. The caller holds the lock of the history.

    Args:
        path: Where it is; None: there is no file.
        origin: When the history began, in the seconds of its times in memory.
        began: The time of day then.
        is_written: Whether it is written; else it is there, and only read.
    """

    def __init__(
        self, path: Path | None, *, origin: float, began: datetime | None = None, is_written: bool = True
    ) -> None:
        self._path = path
        self._origin = origin
        self._lines = LineFile(path) if path is not None and is_written else None
        self._added = 0
        self._size = 0
        at = None if began is None else began.isoformat()
        self._add(lambda: _line({"type": "history", "format": FORMAT, "version": __version__, "began": at}))

    @property
    def problem(self) -> str:
        """Why it lacks the lines that came last; "" if it lacks none."""
        return "" if self._lines is None else self._lines.problem

    @property
    def next_line(self) -> int:
        """The number of the line that is added next; the first line has number 1."""
        return self._added + 1

    @property
    def readable(self) -> int:
        """How many lines can be read from it; -1 where none is written."""
        return -1 if self._lines is None else self._lines.lines

    def add_request(self, request: Request, piece: Piece) -> None:
        """Appends a request, and notes its place in its piece."""
        times = ("scheduled", "sent", "finished")
        self._add(lambda: _line({"type": "request", **self._relative(request_to_json(request), *times)}), piece)

    def add_event(self, event: Event) -> None:
        """Appends an event, at once.

        Raises:
            TypeError: It has a value that cannot be JSON.
        """
        line = _line({"type": "event", **self._relative(event_to_json(event), "at")})
        self._add(lambda: line, at_once=True)

    def requests_of(self, piece: Piece) -> list[Request]:
        """The requests of a piece that is in the file alone.

        Raises:
            HistoryError: The file is not as it was when they were written.
        """
        return requests_of(piece, self._read, self._origin)

    def flush(self) -> None:
        """Waits until it has all that was added."""
        if self._lines is not None:
            self._lines.flush()

    def close(self) -> None:
        """Writes what is not there yet, and closes it; it can still be read."""
        if self._lines is not None:
            self._lines.close()

    def _add(self, line: Line, piece: Piece | None = None, *, at_once: bool = False) -> None:
        if self._lines is not None:
            self._added += 1
            self._lines.add(lambda: self._measured(line(), piece), at_once=at_once)

    def _measured(self, line: str, piece: Piece | None) -> str:
        """A line that is about to be written; its place in the file is noted. Lines are ASCII."""
        begin, self._size = self._size, self._size + len(line) + 1
        if piece is not None:
            piece.written(begin, self._size)
        return line

    def _read(self, begin: int, end: int) -> bytes:
        if self._lines is not None:
            return self._lines.read(begin, end)
        assert self._path is not None  # without a file all is in memory
        return read_bytes(self._path, begin, end)

    def _relative(self, record: dict[str, Json], *times: str) -> dict[str, Json]:
        for name in times:
            value = record[name]
            if isinstance(value, float):
                record[name] = round(value - self._origin, 6)
        return record


def read_history(path: Path) -> tuple[datetime | None, Iterator[tuple[Request | Event, int, int]]]:
    """When a history began, if its file says it, and its requests and events as they are read, in their order.

    Each has with it where its line begins and ends, in bytes. Records of a kind that only a newer version knows are
    left out.

    Raises:
        HistoryError: The file is missing or not a history of this format; or, when it is read, a line of it cannot be
            used.
    """
    with _readable(path):
        mode = path.stat().st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # a pipe can be read once only, and may wait for ever
        raise HistoryError(f"the history {path} cannot be read: it is not a file", fix=[_which_file(path)])
    with _readable(path), path.open("rb") as file:
        line = file.readline()
        header = line.decode("utf-8")
        _check_format(header, path)
    return _time_of_day(_header(header).get("began")), _contents(path, len(line))


def _contents(path: Path, end: int) -> Iterator[tuple[Request | Event, int, int]]:
    """What the lines after the first have, which ends there."""
    with _readable(path), path.open("rb") as file:
        file.seek(end)
        for number, line, record in _records(file, path):
            begin, end = end, end + len(line)
            try:
                content = _content(record)
            except ValueError as error:
                raise _damaged(path, number, str(error)) from error
            if content is not None:
                yield content, begin, end


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise HistoryError(f"the history {path} cannot be read: {why}", fix=[_which_file(path)]) from error


def _content(record: object) -> Request | Event | None:
    if not isinstance(record, dict):
        raise ValueError(f"it is not a JSON object: {repr(record)[:60]}")
    if "type" not in record:
        raise ValueError("it has no 'type'")
    if record["type"] == "request":
        return request_from_json(record)
    return event_from_json(record) if record["type"] == "event" else None


def _line(record: Mapping[str, object]) -> str:
    return json.dumps(record, separators=(",", ":"))


def _which_file(path: Path) -> str:
    """The file that was meant, where a run's directory was given."""
    inside = path / "history.jsonl"
    return f"give {inside if inside.is_file() else 'history.jsonl of a run, such as .serve-chaos/latest/history.jsonl'}"


def _check_format(line: str, path: Path) -> None:
    header = _header(line)
    found = header.get("format")
    if not isinstance(found, int) or header.get("type") != "history":
        raise HistoryError(
            f"{path} is not a history of format {FORMAT}",
            checked=[f"its first line: {line[:120]!r}" if line else "it is empty"],
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


def _damaged(path: Path, number: int, why: str) -> HistoryError:
    return HistoryError(
        f"{path}: line {number}: {why}",
        fix=[
            "take the file as the run wrote it",
            f"or what comes before that line, which may lack verdicts: head -n {number - 1} {path} > history.jsonl",
        ],
    )


def _records(lines: Iterable[bytes], path: Path) -> Iterator[tuple[int, bytes, object]]:
    """Each line with its number and what it says."""
    for number, line in enumerate(lines, start=2):
        text = line.decode("utf-8")
        try:
            record = json.loads(text)
        except RecursionError:
            raise _damaged(path, number, f"it is nested too deeply: {text[:80]!r}") from None
        except ValueError:
            # The last line of a run that was killed may be cut; any other broken line is an error.
            if text.endswith("\n"):
                raise _damaged(path, number, f"it is not JSON: {text[:80]!r}") from None
            return
        yield number, line, record
