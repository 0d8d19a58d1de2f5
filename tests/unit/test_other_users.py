"""A Ray without tokens is refused where other people are on the machine, and nowhere else."""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from pytest_serve_chaos.cluster.local import other_users
from pytest_serve_chaos.cluster.local.other_users import check_tokens
from pytest_serve_chaos.errors import SafetyError

ME, ANNA, BOB = 1000, 1001, 200_001
ACCOUNTS = {
    0: ("root", "/bin/bash"),
    33: ("www-data", "/bin/bash"),
    999: ("postgres", "/bin/bash"),
    ME: ("me", "/bin/bash"),
    ANNA: ("anna", "/bin/zsh"),
    BOB: ("bob", ""),
    65_534: ("nobody", "/usr/sbin/nologin"),
}

Others = Callable[..., tuple[str, ...]]


@pytest.fixture
def others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Others:
    """Who else is on a machine on which these users run processes, or are logged in."""

    def account(uid: int) -> SimpleNamespace:
        name, shell = ACCOUNTS[uid]
        return SimpleNamespace(pw_name=name, pw_shell=shell)

    def find(
        *running: int, logged_in: tuple[int, ...] = (), me: int = ME, became: int = -1, namespace: int = 4026531836
    ) -> tuple[str, ...]:
        proc, logins = tmp_path / "proc", tmp_path / "users"
        for directory in (proc / "self" / "ns", logins):
            directory.mkdir(parents=True)
        (proc / "self" / "ns" / "pid").symlink_to(f"pid:[{namespace}]")
        (proc / "self" / "loginuid").write_text(str(me if became >= 0 else 2**32 - 1))
        for uid in logged_in:
            (logins / str(uid)).touch()
        now = became if became >= 0 else me
        monkeypatch.setattr("os.getuid", lambda: now)
        monkeypatch.setattr("os.geteuid", lambda: now)
        monkeypatch.setattr(other_users, "_owners", lambda _: iter(running))
        return other_users.other_users(proc, logins)

    monkeypatch.setattr(pwd, "getpwuid", account)
    monkeypatch.delenv("SUDO_UID", raising=False)
    return find


def test_on_a_laptop_of_one_user_there_is_nobody_else(others: Others) -> None:
    assert others(0, 33, 999, 65_534, ME, logged_in=(ME,)) == ()


def test_who_runs_something_is_there(others: Others) -> None:
    assert others(0, ME, ANNA, BOB) == ("anna", "bob")


def test_who_is_logged_in_is_there_though_processes_of_others_are_hidden(others: Others) -> None:
    assert others(ME, logged_in=(ME, ANNA)) == ("anna",)


def test_users_of_containers_have_no_account_on_the_machine(others: Others) -> None:
    assert others(ME, 1999, 101_000) == ()


def test_in_a_container_there_is_nobody_else(others: Others) -> None:
    assert others(0, ME, ANNA, me=0, namespace=4026532567) == ()


def test_the_user_who_became_root_is_not_somebody_else(others: Others) -> None:
    assert others(0, ME, logged_in=(ME,), became=0) == ()


def test_the_user_of_sudo_is_not_somebody_else(others: Others, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUDO_UID", str(ME))
    assert others(0, ME, me=0) == ()


def test_the_owners_of_processes_are_those_that_the_kernel_shows() -> None:
    assert os.geteuid() in set(other_users._owners(Path("/proc")))


# -- Tokens --


def test_a_ray_without_tokens_is_refused_where_others_are() -> None:
    with pytest.raises(SafetyError, match=r"Ray 2\.51\.1 has no tokens") as caught:
        check_tokens("2.51.1", allowed=False, others=lambda: ("anna", "bob"))
    assert "anna, bob" in caught.value.checked[0]
    assert "--serve-chaos-allow-ray-without-token" in caught.value.fix[-1]


def test_it_is_started_where_nobody_else_is_and_the_user_is_told() -> None:
    assert "Ray 2.51.1 has no tokens" in check_tokens("2.51.1", allowed=False, others=tuple)


def test_it_is_started_where_the_user_allows_it() -> None:
    assert "Ray 2.51.1 has no tokens" in check_tokens("2.51.1", allowed=True, others=lambda: ("anna",))


def test_nothing_is_said_of_a_ray_with_tokens() -> None:
    assert check_tokens("2.52.0", allowed=False, others=lambda: ("anna",)) == ""
