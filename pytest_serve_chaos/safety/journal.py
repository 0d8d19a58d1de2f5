"""The undo journal: what to undo if a run ends before it does so itself; written to disk before each change."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pytest_serve_chaos.errors import ServeChaosError, in_one_line
from pytest_serve_chaos.safety.private import locked, make_private, read_own, why_not_private, write_whole

BY_HAND = "by_hand"
"""The verb of an entry that only people can undo."""

_BY_HAND = "see what it says, do that by hand"


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing to undo.

    Attributes:
        verb: What to do: a key of the table that `undo` is given.
        arguments: What the verb needs.
        text: What it is, for people.
        owner: The PID of the run that wrote it, for people.
    """

    verb: str
    arguments: dict[str, str]
    text: str
    owner: int


class Journal:
    """Entries as files of a directory, one each.

    The directory is this user's alone. Entries are obeyed, so those that came with a checkout, an archive or a cache,
    or lie where others can write, are refused.

    Its run holds a lock on an entry for as long as it lives. The kernel ends that with the run, however that ends, and
    shows it to other containers; a PID may be a zombie's, or somebody else's by now.

    Args:
        directory: Usually ``.serve-chaos/undo``.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._locks: dict[Path, int] = {}

    def write(self, verb: str, text: str, **arguments: str) -> Path:
        """Writes an entry; it is on disk when this returns. Give the path to `done` when the change was undone.

        Raises:
            SafetyError: The directory is not this user's alone, so that no entry in it would be obeyed.
        """
        make_private(self.directory)
        entry = Entry(verb, arguments, text, os.getpid())
        path = self.directory / f"{uuid.uuid4().hex}.json"
        self._locks[path] = write_whole(path, json.dumps(asdict(entry)))
        return path

    def done(self, path: Path) -> None:
        """Removes an entry."""
        path.unlink(missing_ok=True)
        lock = self._locks.pop(path, None)
        if lock is not None:
            os.close(lock)

    def written(self, verb: str, **arguments: str) -> tuple[Path, ...]:
        """All entries that say that, whichever run wrote them."""
        said = (verb, arguments)
        return tuple(path for path, entry in self._read()[0] if (entry.verb, entry.arguments) == said)

    def left(self) -> tuple[tuple[Path, Entry], ...]:
        """The entries whose run is over."""
        return tuple((path, entry) for path, entry in self._read()[0] if _is_free(path))

    def alive(self) -> tuple[Entry, ...]:
        """The entries whose run goes on."""
        return tuple(entry for path, entry in self._read()[0] if not _is_free(path) and path.exists())

    def undo(
        self, verbs: Mapping[str, Callable[[Mapping[str, str]], None]], say: Callable[[str], None]
    ) -> Sequence[str]:
        """Undoes what runs that are over have left; returns what could not be undone, in words.

        Whatever becomes of one entry, the others are undone.
        """
        entries, failed = self._read()
        for path, entry in entries:
            with locked(path) as held:  # against its run, and against another `undo`
                if held:
                    say(f"undo: {entry.text}")
                    failed += self._undone(path, entry, verbs)
        return failed

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

    def _read(self) -> tuple[list[tuple[Path, Entry]], list[str]]:
        """All entries, and a line about each file that is not an entry."""
        paths = sorted(self.directory.glob("*.json"))
        reason = why_not_private(self.directory)
        if paths and reason:
            return [], [
                f"nothing in {self.directory} is undone, because {reason}; {_BY_HAND}, and delete the directory"
            ]
        entries, problems = [], []
        for path in paths:
            try:
                entries.append((path, _entry(read_own(path))))
            except FileNotFoundError:  # its run has undone it just now
                continue
            except (OSError, ValueError) as error:
                problems.append(f"{path} cannot be read: {error}; {_BY_HAND}, and delete the file")
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
    except (KeyError, TypeError, IndexError, RecursionError) as error:
        raise ValueError(f"it is not an entry: {type(error).__name__} {error}") from error
    return Entry(verb, {str(name): str(value) for name, value in arguments.items()}, words, pid)


def _advice(error: Exception) -> str:
    fix = error.fix if isinstance(error, ServeChaosError) else ()
    return f" ({'; '.join(fix)})" if fix else ""


def _is_free(path: Path) -> bool:
    """Whether there is an entry that nobody holds: one that was removed meanwhile is not there for anybody."""
    with locked(path) as held:
        return held


def journal_of(report_dir: Path) -> Journal:
    """The undo journal of the runs whose reports are there."""
    return Journal(report_dir / "undo")
