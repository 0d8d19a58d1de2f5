"""Directories that this user alone can write to: what lies in one was not put there by anybody else."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from pytest_serve_chaos.errors import SafetyError, in_one_line


def make_private(directory: Path) -> None:
    """Makes a directory for this user alone, unless there is one.

    Raises:
        FileNotFoundError: Another run has removed it meanwhile, with its last entry.
        SafetyError: It cannot be made, or what is there is not for this user alone.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except FileNotFoundError:
        raise
    except OSError as error:
        if isinstance(error, FileExistsError) and not os.path.lexists(directory):
            raise FileNotFoundError(error.errno, "it has just been removed", str(directory)) from error
        raise no_such_place(directory, in_one_line(error)) from error
    if why_not_private(directory) and not directory.is_symlink() and not any(directory.iterdir()):
        directory.chmod(0o700)  # with nothing in it, nothing comes to be trusted by that
    reason = why_not_private(directory)
    if reason:
        raise SafetyError(
            f"{directory} is not a private directory: {reason}",
            checked=["its owner and its mode"],
            fix=["look at what is in it, and delete it", "or set XDG_STATE_HOME to a directory of your own"],
        )


def no_such_place(directory: Path, why: str) -> SafetyError:
    """The error where there is no place to write down what would have to be undone; then nothing is changed."""
    return SafetyError(
        f"{directory} cannot have the undo journal: {why}",
        checked=["XDG_STATE_HOME, or else ~/.local/state"],
        fix=["set XDG_STATE_HOME to a directory of your own on a local disk"],
    )


def why_not_private(directory: Path) -> str:
    """Why others may have written into a directory; "" where they cannot have, or where there is none."""
    try:
        status = os.lstat(directory)
    except FileNotFoundError:
        return ""
    if not stat.S_ISDIR(status.st_mode):
        return "it is a link" if stat.S_ISLNK(status.st_mode) else "it is not a directory"
    if status.st_uid != os.geteuid():
        return f"it belongs to user {status.st_uid}"
    mode = stat.S_IMODE(status.st_mode)
    return f"its mode is {mode:04o}, not 0700" if mode & 0o077 else ""


def read_own(path: Path) -> str:
    """Reads a file that this user wrote.

    Raises:
        OSError: It cannot be read, or is a link.
        ValueError: It belongs to somebody else, others may write to it, or it is not text.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    with open(handle, encoding="utf-8") as file:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o022:
            raise ValueError("it is not a file that only this user can write to")
        return file.read()


def write_whole(path: Path, text: str) -> int:
    """Writes a new file so that nobody ever sees a part of it; it is on disk, with its name, when this returns.

    Returns:
        A descriptor that holds the lock on the file; closing it ends that.

    Raises:
        OSError: It could not be written, and then there is no such file.
        SafetyError: Its file system has no locks, so that nobody could tell whether the run goes on.
    """
    part = path.with_suffix(".part")
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise no_such_place(path.parent, f"its file system has no locks ({in_one_line(error)})") from error
        with open(handle, "w", encoding="utf-8", closefd=False) as file:
            file.write(text)
        os.fsync(handle)
        os.replace(part, path)
        sync_directory(path.parent)
    except BaseException:
        part.unlink(missing_ok=True)
        os.close(handle)
        raise
    return handle


@contextlib.contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Holds the lock on a file meanwhile; False where somebody else has it, or the file is gone.

    Raises:
        OSError: It cannot be opened or locked.
    """
    try:
        handle = _opened_for_lock(path)
    except FileNotFoundError:
        yield False
        return
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield path.exists()  # its previous owner may have removed the file
    finally:
        os.close(handle)


def _opened_for_lock(path: Path) -> int:
    """A descriptor; over NFS an exclusive lock needs one that can write."""
    try:
        return os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except PermissionError:
        return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        if error.errno != errno.EROFS:
            raise
        return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)


def sync_directory(directory: Path) -> None:
    """Has the names in a directory survive a loss of power."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
