"""The requests of a history in pieces: the newest are in memory, the older ones in the file alone."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from pytest_serve_chaos.errors import HistoryError
from pytest_serve_chaos.json_records import request_from_json
from pytest_serve_chaos.model import Request

IN_MEMORY = 200_000
"""Requests that stay in memory at least, the newest: 50 MB, or a quarter of an hour at 200 a second."""

OF_A_PIECE = 1024
"""Requests that are dropped from memory, and read from the file again, together."""

Read: TypeAlias = Callable[[int, int], bytes]
"""Returns the bytes of the file from one place to another."""


@dataclass(slots=True)
class Piece:
    """Some requests that ended one after the other.

    Attributes:
        requests: None where they are in the file alone.
        number: How many.
        first_due: When the earliest of them was scheduled; monotonic seconds.
        last_due: The same of the latest.
        ended_by: By when they, and all before them, had ended.
        begin: Where in the file the line of the first of them begins, in bytes; -1 as long as it is not written.
        end: Where the line of the last that was written ends.
        last_line: The number of the line of the last of them, where the first line of the file is 1.
    """

    requests: list[Request] | None = field(default_factory=list)
    number: int = 0
    first_due: float = math.inf
    last_due: float = -math.inf
    ended_by: float = -math.inf
    begin: int = -1
    end: int = -1
    last_line: int = 0

    def written(self, begin: int, end: int) -> None:
        """Notes where in the file one more of its requests is."""
        self.begin, self.end = begin if self.begin < 0 else self.begin, end


class RequestPieces:
    """All requests of a history, in the order in which they ended.

    It has no lock: one thread at a time calls `add`, `free` and `ended_since`. What `ended_since` returns may be read
    by any thread, at any time.

    Args:
        in_memory: How many stay in memory at least.
        of_a_piece: How many are dropped together.
    """

    def __init__(self, in_memory: int = IN_MEMORY, of_a_piece: int = OF_A_PIECE) -> None:
        self._most = in_memory
        self._of_a_piece = of_a_piece
        self._pieces: list[Piece] = [Piece()]
        self._oldest = 0
        self.in_memory = 0

    def add(self, request: Request, line: int) -> Piece:
        """Appends a request that has ended; returns its piece.

        Args:
            request: The request.
            line: The number of its line in the file.
        """
        newest = self._pieces[-1]
        if newest.number >= self._of_a_piece:
            newest = Piece(ended_by=newest.ended_by)
            self._pieces.append(newest)
        assert newest.requests is not None  # only full pieces are dropped
        newest.requests.append(request)
        newest.number += 1
        newest.first_due = min(newest.first_due, request.scheduled)
        newest.last_due = max(newest.last_due, request.scheduled)
        newest.ended_by = max(newest.ended_by, request.finished, request.scheduled)
        newest.last_line = line
        self.in_memory += 1
        return newest

    def free(self, lines: int, since: float) -> None:
        """Drops one piece from memory, if more requests are there than must be.

        Args:
            lines: How many lines are in the file: what is not there yet stays.
            since: What was scheduled then or later stays; monotonic seconds.
        """
        oldest = self._pieces[self._oldest]
        is_left_over = self.in_memory - oldest.number >= self._most and oldest is not self._pieces[-1]
        if is_left_over and oldest.last_line <= lines and oldest.last_due < since:
            oldest.requests = None
            self.in_memory -= oldest.number
            self._oldest += 1

    def ended_since(self, at: float) -> list[tuple[Piece, list[Request] | None]]:
        """The pieces that may have requests which were scheduled then or later, in order, each with its requests."""
        found: list[tuple[Piece, list[Request] | None]] = []
        for piece in reversed(self._pieces):
            if piece.ended_by < at:  # none ends before it is scheduled
                break
            if piece.last_due >= at:
                found.append((piece, piece.requests))
        if found and found[0][0] is self._pieces[-1]:  # more may come to it
            found[0] = (found[0][0], list(found[0][1] or ()))
        return found[::-1]


def scheduled_between(
    pieces: Iterable[tuple[Piece, list[Request] | None]],
    begin: float,
    end: float,
    source: str | None,
    read: Callable[[Piece], list[Request]],
) -> Iterator[Request]:
    """The requests of these pieces that were scheduled in that time, one after the other as they are read.

    Args:
        pieces: Each with its requests; None where they are in the file alone.
        begin: Monotonic seconds.
        end: Those scheduled at that moment are among them.
        source: Only those that this traffic sent; None: those of all.
        read: Reads the requests of a piece from the file.
    """
    for piece, requests in pieces:
        if piece.first_due <= end:
            for request in read(piece) if requests is None else requests:
                if begin <= request.scheduled <= end and source in (None, request.source):
                    yield request


def requests_of(piece: Piece, read: Read, origin: float) -> list[Request]:
    """The requests of a piece that is in the file alone.

    Args:
        piece: The piece.
        read: Reads the file.
        origin: When the history began, monotonic seconds: times in the file count from there.

    Raises:
        HistoryError: The file is not as it was when they were written.
    """
    try:
        found = list(_parsed(read(piece.begin, piece.end), origin))
    except (OSError, ValueError, RecursionError) as error:
        raise _changed(str(error)) from error
    if len(found) != piece.number:
        raise _changed(f"{piece.number} requests were in it from byte {piece.begin} on, and now {len(found)}")
    return found


def _parsed(text: bytes, origin: float) -> Iterator[Request]:
    for line in text.splitlines():
        record = json.loads(line)
        if isinstance(record, dict) and record.get("type") == "request":
            request = request_from_json(record)
            yield request if not origin else _later(request, origin)


def _later(request: Request, seconds: float) -> Request:
    sent = None if request.sent is None else request.sent + seconds
    return replace(request, scheduled=request.scheduled + seconds, sent=sent, finished=request.finished + seconds)


def _changed(how: str) -> HistoryError:
    return HistoryError(
        "the history was changed while it was in use, so its older requests cannot be read",
        checked=[how],
        fix=["leave history.jsonl alone while a run writes it, or a program reads it"],
    )
