"""Directories among the system's temporary files that their user holds by a lock.

A program that is killed leaves its directory. The kernel has ended the lock then, so the next run of the same user
finds the directory and removes it. What somebody holds, or never held, is left alone, whatever its name is.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import functools
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

PREFIX = "serve-chaos-"
"""What their names begin with."""

FILES = "files"
"""The owner of the directories that need no more than to be removed."""

_LOCK = "in-use"
_SAID = re.compile(r"(?P<owner>[a-z]+) (?P<mark>[0-9a-zA-Z-]*)\n")


@dataclass(frozen=True, slots=True)
class Scratch:
    """A directory that this process holds, and each process that inherits the descriptor.

    Attributes:
        path: The directory; only this user can look into it.
        descriptor: Holds the lock.
    """

    path: Path
    descriptor: int

    def remove(self) -> None:
        """Removes it, and ends the lock."""
        remove(self.path)
        os.close(self.descriptor)


@dataclass(frozen=True, slots=True)
class Left:
    """A directory that was left, and is held now so that it can be removed.

    Attributes:
        path: The directory.
        mark: What its user said of itself.
    """

    path: Path
    mark: str


def create(path: Path, owner: str, mark: str = "") -> Scratch:
    """Creates a directory, and holds it.

    Args:
        path: It must not exist.
        owner: Who cleans up such a directory: `left_by` takes the same word.
        mark: What that needs in addition.

    Raises:
        OSError: It could not be created, and then there is nothing.
    """
    path.mkdir(mode=0o700)
    try:
        return Scratch(path, _locked_file(path / _LOCK, f"{owner} {mark}\n"))
    except BaseException:
        shutil.rmtree(path, ignore_errors=True)
        raise


def _locked_file(path: Path, text: str) -> int:
    """A file that has its text only once it is locked, so that nobody takes it for one that was left."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        os.write(descriptor, text.encode())
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def remove(path: Path) -> bool:
    """Removes a directory that is held, its lock last: what is left of it, should this be killed, can still be found.

    Returns:
        Whether it is gone.
    """
    with contextlib.suppress(OSError):
        for entry in path.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry, ignore_errors=True)
            elif entry.name != _LOCK:
                entry.unlink(missing_ok=True)
        if {entry.name for entry in path.iterdir()} <= {_LOCK}:
            _remove_with_lock(path)
    return not path.exists()


def _remove_with_lock(path: Path) -> None:
    """Removes a directory that has its lock at most. If it must stay, the lock does too: nobody finds it without."""
    lock = path / _LOCK
    said = lock.read_bytes() if lock.exists() else None
    lock.unlink(missing_ok=True)
    try:
        path.rmdir()
    except OSError:
        if said is not None:
            lock.write_bytes(said)
        raise


@functools.cache
def of_this_process() -> Path:
    """A directory for the temporary files of this process, which is removed when that ends."""
    made = create(Path(tempfile.gettempdir()) / f"{PREFIX}{uuid.uuid4().hex[:8]}", FILES)
    owner = os.getpid()

    def end() -> None:
        if os.getpid() == owner:
            made.remove()

    atexit.register(end)
    return made.path


def left_by(owner: str) -> Iterator[Left]:
    """The directories of that owner that nobody holds any more; each is held while the caller has it.

    Args:
        owner: As `create` was given.
    """
    for path in sorted(Path(tempfile.gettempdir()).glob(f"{PREFIX}*")):
        with _held(path) as said:
            if said is not None and said["owner"] == owner:
                yield Left(path, said["mark"])


def sweep_files(progress: Callable[[str], None]) -> Iterator[str]:
    """Removes the temporary files of processes that were killed; gives what could not be removed, in words.

    Args:
        progress: Prints a line for people.
    """
    for left in left_by(FILES):
        progress(f"undo: temporary files of a run that ended by force: {left.path}")
        if not remove(left.path):
            yield f"{left.path} could not be removed"


@contextlib.contextmanager
def _held(path: Path) -> Iterator[re.Match[str] | None]:
    """Holds a directory of this user's that nobody else holds, and gives what its user said; None for any other."""
    with contextlib.ExitStack() as opened:
        said = None
        with contextlib.suppress(OSError):  # it is gone, somebody holds it, or its file system has no locks
            descriptor = _open(path, os.O_RDONLY | os.O_DIRECTORY, None)
            opened.callback(os.close, descriptor)
            lock = _open(Path(_LOCK), os.O_RDWR, descriptor)
            opened.callback(os.close, lock)
            if all(os.fstat(one).st_uid == os.geteuid() for one in (descriptor, lock)):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                said = _SAID.fullmatch(os.pread(lock, 200, 0).decode(errors="replace"))
        yield said


def _open(path: Path, flags: int, directory: int | None) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
