"""The undo journal: what to mend when a run ends before it mends it itself, on disk before the change."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pytest_serve_chaos.errors import SafetyError, ServeChaosError


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing to undo.

    Attributes:
        verb: What to do: a key of the table that `undo` is given.
        arguments: What the verb needs.
        text: What it is, for people.
        owner: The PID of the run that wrote it, and the start time of that process.
    """

    verb: str
    arguments: dict[str, str]
    text: str
    owner: tuple[int, int]


class Journal:
    """Entries as files of a directory, one each.

    Args:
        directory: Usually ``.serve-chaos/undo``.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def write(self, verb: str, text: str, **arguments: str) -> Path:
        """Writes an entry; it is on disk when this returns. Give the path to `done` when the change was undone."""
        self.directory.mkdir(parents=True, exist_ok=True)
        entry = Entry(verb, arguments, text, (os.getpid(), _started(os.getpid())))
        path = self.directory / f"{uuid.uuid4().hex}.json"
        with path.open("x") as file:
            json.dump(asdict(entry), file)
            file.flush()
            os.fsync(file.fileno())
        return path

    def done(self, path: Path) -> None:
        """Removes an entry."""
        path.unlink(missing_ok=True)

    def left(self) -> tuple[tuple[Path, Entry], ...]:
        """The entries whose run is over.

        Raises:
            SafetyError: A file of the directory is no entry.
        """
        found = []
        for path in sorted(self.directory.glob("*.json")):
            try:
                record = json.loads(path.read_text())
                entry = Entry(**{**record, "owner": tuple(record["owner"])})
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise SafetyError(
                    f"the undo journal cannot be read: {error}",
                    looked_at=[str(path)],
                    mend=["see what the file says, mend that by hand, and delete the file"],
                ) from error
            pid, started = entry.owner
            if _started(pid) != started:
                found.append((path, entry))
        return tuple(found)

    def undo(
        self, verbs: Mapping[str, Callable[[Mapping[str, str]], None]], say: Callable[[str], None]
    ) -> Sequence[str]:
        """Undoes what runs that are over have left; returns what could not be undone, in words."""
        failed = []
        for path, entry in self.left():
            say(f"undo: {entry.text}")
            if entry.verb not in verbs:
                failed.append(f"{entry.text}: this version does not know how ({entry.verb})")
                continue
            try:
                verbs[entry.verb](entry.arguments)
            except ServeChaosError as error:
                failed.append(f"{entry.text}: {error.what}")
            else:
                self.done(path)
        return failed


def _started(pid: int) -> int:
    """When the process began, in clock ticks since boot; 0 if there is none."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[19])
    except (OSError, IndexError):
        return 0
