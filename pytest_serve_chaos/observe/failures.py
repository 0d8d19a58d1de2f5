"""What keeps the watch of a cluster from seeing anything, and which of its errors nobody has foreseen."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Literal, TypeAlias

from pytest_serve_chaos.errors import ServeChaosError
from pytest_serve_chaos.events import Note
from pytest_serve_chaos.history import History

_MOST_NOTES = 100
"""Texts of unforeseen errors that are written down: each may differ, as with a time in it."""

Doing: TypeAlias = Literal["look", "ask"]


class Failures:
    """The errors of a watch. One of a kind that is not foreseen is written down once, as a note.

    Args:
        history: Where that is written.
        experiment: Returns the name of the experiment that runs now.
    """

    def __init__(self, history: History, experiment: Callable[[], str]) -> None:
        self._history = history
        self._experiment = experiment
        self._lock = threading.Lock()
        self._noted: set[str] = set()
        self._now: dict[Doing, str] = {"look": "", "ask": ""}

    @property
    def text(self) -> str:
        """Why the last look, or the last question to Ray and Serve, failed; empty if neither did."""
        return "; ".join(filter(None, self._now.values()))

    def over(self, doing: Doing) -> None:
        """Notes that there was no error this time."""
        self._now[doing] = ""

    def met(self, doing: Doing, error: Exception) -> None:
        """Notes an error."""
        self._now[doing] = self._explain(error)

    def _explain(self, error: Exception) -> str:
        """The error in words. One of a kind that is not foreseen goes into the history, once for each text."""
        if isinstance(error, (ServeChaosError, OSError)):
            return str(error)
        text = f"{type(error).__name__}: {error}"
        with self._lock:
            new = text not in self._noted and len(self._noted) < _MOST_NOTES
            if new:
                self._noted.add(text)
        if new:
            with contextlib.suppress(OSError):  # of a disk that is full
                note = f"the watch met an unforeseen error and goes on: {text}"
                self._history.add(Note(note, experiment=self._experiment()))
        return text
