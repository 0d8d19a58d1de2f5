"""The undo journal: what to undo if a run ends before it does so itself; written to disk before each change."""

from __future__ import annotations

import contextlib
import json
import os
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from pytest_serve_chaos.errors import ServeChaosError, in_one_line
from pytest_serve_chaos.safety.private import (
    locked,
    make_private,
    no_such_place,
    read_own,
    why_not_private,
    write_whole,
)

BY_HAND = "by_hand"
"""The verb of an entry that only people can undo."""

_BY_HAND = "see what it says, do that by hand"
_OURS = "pytest-serve-chaos"
_TRIES = 1000
"""How often another run may remove the directory, which is empty, at the very moment in which this one writes to it."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing to undo.

    Attributes:
        verb: What to do: a key of the table that `undo` is given.
        arguments: What the verb needs.
        text: What it is, for people.
        owner: The PID of the run that wrote it, for people.
        reports: The directory of that run's reports.
    """

    verb: str
    arguments: dict[str, str]
    text: str
    owner: int
    reports: str = ""


class Journal:
    """Entries as files of a directory, one each.

    The directory is this user's alone. Entries are obeyed, so those that came with a checkout, an archive or a cache,
    or lie where others can write, are refused.

    Its run holds a lock on an entry for as long as it lives. The kernel ends that with the run, however that ends, and
    shows it to other containers; a PID may be a zombie's, or somebody else's by now.

    Args:
        directory: That of all runs of this user: see `directory_of_journals`.
        reports: The report directory of a run; None: all that is read is what any run has written.
    """

    def __init__(self, directory: Path, reports: Path | None = None) -> None:
        self.directory = directory
        self._reports = None if reports is None else str(reports.resolve())
        self._locks: dict[Path, int] = {}

    def write(self, verb: str, text: str, **arguments: str) -> Path:
        """Writes an entry; it is on disk when this returns. Give the path to `done` when the change was undone.

        Raises:
            SafetyError: The directory cannot be made, is not this user's alone, so that no entry in it would be obeyed,
                or its file system has no locks.
        """
        if not self.directory.is_absolute():
            raise no_such_place(self.directory, "this user has no home")
        entry = Entry(verb, arguments, text, os.getpid(), self._reports or "")
        path = self.directory / f"{uuid.uuid4().hex}.json"
        for _ in range(_TRIES):
            with contextlib.suppress(FileNotFoundError):
                make_private(self.directory)
                self._locks[path] = write_whole(path, json.dumps(asdict(entry)))
                return path
        raise no_such_place(self.directory, "it disappears again and again")

    def done(self, path: Path) -> None:
        """Removes an entry, and the directory with the last one."""
        path.unlink(missing_ok=True)
        lock = self._locks.pop(path, None)
        if lock is not None:
            os.close(lock)
        with contextlib.suppress(OSError):  # there are others
            self.directory.rmdir()
            if self.directory.parent.name == _OURS:
                self.directory.parent.rmdir()

    def written(self, verb: str, **arguments: str) -> tuple[Path, ...]:
        """All entries that say at least that, whichever run wrote them."""
        said = arguments.items()
        return tuple(path for path, entry in self.entries() if entry.verb == verb and said <= entry.arguments.items())

    def has_written(self, entry: Entry) -> bool:
        """Whether a run with this report directory has written that entry."""
        return self._reports in (None, entry.reports)

    def entries(self) -> tuple[tuple[Path, Entry], ...]:
        """All entries that can be read."""
        return tuple(self._read()[0])

    def left(self) -> tuple[tuple[Path, Entry], ...]:
        """The entries whose run is over."""
        return tuple((path, entry) for path, entry in self.entries() if _run_of(path) == "over")

    def alive(self) -> tuple[Entry, ...]:
        """The entries whose run goes on."""
        return tuple(entry for path, entry in self.entries() if _run_of(path) == "alive")

    def broken(self) -> Sequence[str]:
        """A line about each file that is not an entry, whose run nobody knows."""
        return self._read()[1]

    def undo(
        self,
        verbs: Mapping[str, Callable[[Mapping[str, str]], None]],
        say: Callable[[str], None],
        *,
        which: Callable[[Entry], bool] | None = None,
    ) -> Sequence[str]:
        """Undoes what runs that are over have left; returns what could not be undone, in words.

        Whatever becomes of one entry, the others are undone.

        Args:
            verbs: How each verb is undone, by its arguments.
            say: Prints a line about each entry.
            which: Whether an entry is to be undone, whatever the report directory of its run; None: those of this one.
        """
        self._remove_parts()
        entries, failed = self._read(which)
        for path, entry in entries:
            with contextlib.ExitStack() as held:
                try:
                    free = held.enter_context(locked(path))  # against its run, and against another `undo`
                except OSError as error:
                    failed.append(f"{entry.text}: it is unknown whether its run is over: {in_one_line(error)}")
                    continue
                if free:
                    say(f"undo: {entry.text}")
                    failed += self._undone(path, entry, verbs)
        return failed

    def _remove_parts(self) -> None:
        """Removes entries whose run was killed while it wrote them, so that nothing was changed yet."""
        for part in self.directory.glob("*.part") if self.directory.is_absolute() else ():
            with contextlib.suppress(OSError), locked(part) as held:
                if held and not why_not_private(self.directory):
                    part.unlink()

    def _undone(
        self, path: Path, entry: Entry, verbs: Mapping[str, Callable[[Mapping[str, str]], None]]
    ) -> Sequence[str]:
        """Undoes one entry; returns why it could not be undone, if so."""
        if entry.verb == BY_HAND:
            command = entry.arguments.get("command", "")
            how = f"run: {command}" if command else "do what the test would have done to repair it"
            return [f"{entry.text}: only you can undo that: {how}; then delete {path}"]
        if entry.verb not in verbs:
            return [f"{entry.text}: this version does not know how ({entry.verb})"]
        try:
            verbs[entry.verb](entry.arguments)
            self.done(path)
        except Exception as error:
            return [f"{entry.text}: {in_one_line(error)}{_advice(error)}"]
        return []

    def _read(self, which: Callable[[Entry], bool] | None = None) -> tuple[list[tuple[Path, Entry]], list[str]]:
        """The entries of this journal, or those that are wanted, and a line about each file that is not an entry."""
        paths = sorted(self.directory.glob("*.json")) if self.directory.is_absolute() else []
        reason = why_not_private(self.directory)
        if reason and (paths or not os.access(self.directory, os.R_OK)):
            return [], [
                f"nothing in {self.directory} is undone, because {reason}; {_BY_HAND}, and delete the directory"
            ]
        entries, problems = [], []
        for path in paths:
            try:
                entry = _entry(read_own(path))
            except FileNotFoundError:  # its run has undone it just now
                continue
            except (OSError, ValueError) as error:
                problems.append(f"{path} cannot be read: {error}; {_BY_HAND}, and delete the file")
                continue
            if (which or self.has_written)(entry):
                entries.append((path, entry))
        return entries, problems


def _entry(text: str) -> Entry:
    """Reads an entry.

    Raises:
        ValueError: It is not an entry.
    """
    try:
        record = json.loads(text)
        verb, arguments, words = record["verb"], record["arguments"], record["text"]
        owner = record["owner"]
        pid = int(owner[0] if isinstance(owner, list) else owner)  # older versions also wrote when it had started
        if not isinstance(verb, str) or not isinstance(words, str) or not isinstance(arguments, dict):
            raise TypeError("it has a field of another type")
        reports = str(record.get("reports", ""))
    except (KeyError, TypeError, IndexError, RecursionError) as error:
        raise ValueError(f"it is not an entry: {type(error).__name__} {error}") from error
    return Entry(verb, {str(name): str(value) for name, value in arguments.items()}, words, pid, reports)


def _advice(error: Exception) -> str:
    fix = error.fix if isinstance(error, ServeChaosError) else ()
    return f" ({'; '.join(fix)})" if fix else ""


def _run_of(path: Path) -> Literal["over", "alive", "unknown"]:
    """Whether the run that wrote an entry goes on; of one that was removed meanwhile nobody needs to know."""
    try:
        with locked(path) as held:
            return "over" if held else "alive" if path.exists() else "unknown"
    except OSError:
        return "unknown"


def directory_of_journals() -> Path:
    """Where the entries of all runs of this user are: in no checkout, and not in a workspace that CI wipes.

    It is not absolute where this user has no home; then there are no entries, and none can be written.
    """
    given = os.environ.get("XDG_STATE_HOME", "")
    state = given if os.path.isabs(given) else os.path.expanduser("~/.local/state")
    return Path(state) / _OURS / "undo"


def journal_of(report_dir: Path) -> Journal:
    """The undo journal of the runs whose reports are there."""
    return Journal(directory_of_journals(), report_dir)
