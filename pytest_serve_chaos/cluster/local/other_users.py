"""Who else is on this machine: to them, a Ray without tokens is a way to run code as the user who tests."""

from __future__ import annotations

import contextlib
import os
import pwd
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from pytest_serve_chaos.cluster.ray_tokens import FIRST_WITH_TOKENS, has_tokens
from pytest_serve_chaos.errors import SafetyError

_FIRST_PERSON = 1000
"""The user id from which on accounts are for people (UID_MIN in login.defs)."""
_MACHINE = "pid:[4026531836]"
"""The PID namespace that a kernel starts with (PROC_PID_INIT_INO); that of a container is another one."""
_NO_LOGIN = {"nologin", "false", "true", "sync", "halt", "shutdown"}
_SHOWN = 5


def other_users(proc: Path = Path("/proc"), logins: Path = Path("/run/systemd/users")) -> tuple[str, ...]:
    """The people, other than this user, who are logged in or run something on this machine.

    Accounts of people have a user id of 1000 or more and a shell. The user who became root with `sudo` is this user.
    In a container there is nobody else: it sees only its own processes.

    Args:
        proc: Where the kernel shows processes.
        logins: Where systemd has a file for each user who is logged in.
    """
    if _in_container(proc):
        return ()
    found = {*_owners(proc), *_logged_in(logins)} - _this_user(proc)
    names = {uid: _name_of_person(uid) for uid in found if uid >= _FIRST_PERSON}
    return tuple(sorted(name for name in names.values() if name))


def check_tokens(ray_version: str, *, allowed: bool, others: Callable[[], Sequence[str]] = other_users) -> str:
    """Checks that a Ray without tokens is not within the reach of others.

    Args:
        ray_version: The Ray that will be started.
        allowed: Whether the user allows it all the same.
        others: Finds the other people on this machine.

    Returns:
        What to know of it; "" for a Ray with tokens.

    Raises:
        SafetyError: It is, and the user does not allow it.
    """
    if has_tokens(ray_version):
        return ""
    first = ".".join(map(str, FIRST_WITH_TOKENS))
    found = () if allowed else others()
    if found:
        shown = ", ".join([*found[:_SHOWN], *(["..."] if len(found) > _SHOWN else [])])
        raise SafetyError(
            f"Ray {ray_version} has no tokens, so other users of this machine could run code as you by the cluster",
            checked=[f"users who are logged in, or run something here: {shown}"],
            fix=[
                f"install Ray {first} or newer, which has tokens",
                "run the tests in a container or a machine of their own",
                "or allow it: --serve-chaos-allow-ray-without-token",
            ],
        )
    return f"Ray {ray_version} has no tokens (the first is {first}): everybody who reaches this machine can use it"


def _in_container(proc: Path) -> bool:
    try:
        return os.readlink(proc / "self" / "ns" / "pid") != _MACHINE
    except OSError:
        return False


def _owners(proc: Path) -> Iterator[int]:
    """Who runs processes; where the machine hides those of others (hidepid), only this user is seen."""
    for entry in proc.iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):  # it has ended
                yield entry.stat().st_uid


def _logged_in(logins: Path) -> Iterator[int]:
    with contextlib.suppress(OSError):  # no systemd
        yield from [int(entry.name) for entry in logins.iterdir() if entry.name.isdigit()]


def _this_user(proc: Path) -> set[int]:
    found = {os.getuid(), os.geteuid()}
    with contextlib.suppress(OSError, ValueError):
        found.add(int((proc / "self" / "loginuid").read_text()))  # who logged in and became root; 2**32 - 1 for nobody
    with contextlib.suppress(ValueError):
        found.add(int(os.environ.get("SUDO_UID", "")))
    return found


def _name_of_person(uid: int) -> str:
    """The name of the account; "" where it has no shell, or there is none, as for the users of containers."""
    try:
        account = pwd.getpwuid(uid)
    except KeyError:
        return ""
    return "" if Path(account.pw_shell or "sh").name in _NO_LOGIN else account.pw_name
