"""Locks between the runs of one user on one machine, on clusters and on ports.

They are files in a private directory, and go when they are released.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import stat
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pytest_serve_chaos.errors import Locked, SafetyError

_APP = "pytest-serve-chaos"
_TRIES = 1000
"""How often a file or directory may be removed by another run at the very moment in which this one opens it."""


@dataclass(frozen=True, slots=True)
class FileLock:
    """A lock that this process holds; the kernel releases it when the last process closes the descriptor.

    Attributes:
        path: Its file.
        descriptor: Keeps it held, in each process that inherits it.
    """

    path: Path
    descriptor: int

    def release(self) -> None:
        """Removes the file and closes the descriptor."""
        remove(self.path)
        os.close(self.descriptor)


def acquire(name: str) -> FileLock:
    """Acquires the lock of that name without waiting.

    Raises:
        Locked: Another process has it.
        SafetyError: There is no directory that only this user can write to.
    """
    for _ in range(_TRIES):
        directory = lock_directory()
        with contextlib.suppress(FileNotFoundError), _opened(directory) as handle:
            fcntl.flock(handle, fcntl.LOCK_SH)  # while `sweep` looks, what it holds for a moment is nobody's
            descriptor = _try(handle, directory / name)
            if descriptor is not None:
                return FileLock(directory / name, descriptor)
    raise _refused("the directory for locks disappears again and again", [str(directory)])


@contextlib.contextmanager
def cluster_lock(cluster: str, *, key: str | None = None, again: bool = False) -> Iterator[None]:
    """Holds the lock of a cluster; the kernel gives it back however this process ends.

    Args:
        cluster: What people call the cluster on this machine: ``kind/NAME``, ``CONTEXT/NAMESPACE/RAYSERVICE``.
        key: What tells it from all others, where that is something else.
        again: Whether this process may have the lock already, and keeps it then.

    Raises:
        Locked: Another run has it.
        SafetyError: There is no directory that only this user can write to.
    """
    name = f"cluster-{hashlib.sha256((key or cluster).encode()).hexdigest()[:16]}.lock"
    try:
        lock = acquire(name)
    except Locked as held:
        if again and held.checked[0].endswith(f", held by PID {os.getpid()}"):
            yield
            return
        raise Locked(
            f"another run is using the cluster {cluster}",
            checked=held.checked,
            fix=["wait for it, or end it", "or use a cluster of your own"],
        ) from None
    try:
        yield
    finally:
        lock.release()


def remove(path: Path) -> None:
    """Removes the file of a lock that is held, and the directories around it that no other run needs."""
    directory = path.parent
    path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # it is usually not empty
        directory.rmdir()
        if directory.parent.name == f"runtime-{os.getuid()}":  # what platformdirs creates where there is nothing else
            directory.parent.rmdir()


def sweep() -> None:
    """Removes the files of locks whose holders were killed."""
    with contextlib.suppress(SafetyError, FileNotFoundError):
        directory = lock_directory()
        if not directory.is_dir():
            return
        with _opened(directory) as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            for path in sorted(directory.glob("*.lock")):
                with contextlib.suppress(OSError):  # somebody holds it, or it is gone
                    _remove_if_free(path, handle)


def _remove_if_free(path: Path, directory: int) -> None:
    descriptor = os.open(path.name, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=directory)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_still(descriptor, path.name, directory):
            remove(path)
    finally:
        os.close(descriptor)


def lock_directory() -> Path:
    """The user's runtime directory for this plugin, which a logout or a reboot clears; it may not exist yet.

    Raises:
        SafetyError: The user has none.
    """
    import platformdirs

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that XDG_RUNTIME_DIR is not set, or not private, is fine: see `_opened`
            return platformdirs.user_runtime_path(_APP, appauthor=False)
    except OSError as error:
        raise _refused(f"there is no private directory for locks: {error}", []) from error


@contextlib.contextmanager
def _opened(directory: Path) -> Iterator[int]:
    """A descriptor of the directory, which is created if necessary, and refused if another user controls it."""
    try:
        directory.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _refused(f"the directory for locks cannot be used: {error}", [str(directory)]) from error
    try:
        _check_private(directory, os.fstat(descriptor), os.stat(directory.parent))
        yield descriptor
    finally:
        os.close(descriptor)


def _check_private(directory: Path, found: os.stat_result, parent: os.stat_result) -> None:
    mode = stat.S_IMODE(found.st_mode)
    if found.st_uid != os.getuid() or mode & 0o077:
        raise _refused(
            "the directory for locks is not private",
            [f"{directory}: owner {found.st_uid}, mode {mode:04o}; it must be owner {os.getuid()}, mode 0700"],
        )
    if parent.st_uid not in (0, os.getuid()):
        raise _refused(
            "the directory for locks is in a directory of another user",
            [f"{directory.parent}: owner {parent.st_uid}; it must be owner {os.getuid()}"],
        )


def _try(directory: int, path: Path) -> int | None:
    """Opens and locks the file; None where it, or its directory, was removed at the same moment."""
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        descriptor = os.open(path.name, flags, 0o600, dir_fd=directory)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _refused(f"the file of a lock cannot be used: {error}", [str(path)]) from error
    try:
        _lock(descriptor, path)
        if _is_still(descriptor, path.name, directory):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, str(os.getpid()).encode(), 0)
            return descriptor
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None


def _lock(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.pread(descriptor, 100, 0).decode(errors="replace").strip() or "unknown"
        raise Locked(f"another run holds {path.name}", checked=[f"{path}, held by PID {owner}"]) from None


def _is_still(descriptor: int, name: str, directory: int) -> bool:
    """Whether the file that was locked is the one that others would open: its holder may just have removed it."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(name, dir_fd=directory, follow_symlinks=False))
    except FileNotFoundError:
        return False


def _refused(what: str, checked: list[str]) -> SafetyError:
    return SafetyError(
        what,
        checked=checked,
        fix=["remove it", "or set XDG_RUNTIME_DIR to a directory of your own, mode 0700"],
    )
