"""Programs that give credentials have a deadline, and are run as rarely as they have to be."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_serve_chaos import clock
from pytest_serve_chaos.clock import NotYet
from pytest_serve_chaos.cluster.kubernetes.client import access, connection, deadline
from pytest_serve_chaos.cluster.kubernetes.client.api import KubeApi
from pytest_serve_chaos.cluster.kubernetes.client.deadline import within
from pytest_serve_chaos.errors import ClusterError, CommandFailed
from tests.unit.api_server import ApiServer, api_server

PODS = "/api/v1/namespaces/ml/pods"


class Helper:
    """A program that gives a token, as those of clouds do; it notes each of its runs.

    Attributes:
        calls: Has a line for each run.
    """

    def __init__(self, directory: Path) -> None:
        self.calls = directory / "calls"
        self._file, self._hangs, self._token = directory / "helper", directory / "hangs", directory / "token"
        self.gives("first")
        self._file.write_text(
            f"#!/bin/sh\necho $$ >>{self.calls}\n[ -e {self._hangs} ] && sleep 60\ncat {self._token}\n"
        )
        self._file.chmod(0o755)
        self.user = (
            f"{{exec: {{apiVersion: client.authentication.k8s.io/v1, interactiveMode: Never, command: {self._file}}}}}"
        )

    def gives(self, token: str, *, ends: str = "") -> None:
        end = f', "expirationTimestamp": "{ends}"' if ends else ""
        self._token.write_text(
            f'{{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential",'
            f' "status": {{"token": "{token}"{end}}}}}'
        )

    def hangs(self) -> None:
        self._hangs.touch()

    @property
    def runs(self) -> int:
        return len(self.calls.read_text().split())

    @property
    def last_pid(self) -> int:
        return int(self.calls.read_text().split()[-1])


@pytest.fixture
def helper(tmp_path: Path) -> Helper:
    return Helper(tmp_path)


@pytest.fixture
def server() -> Iterator[ApiServer]:
    with api_server() as api:
        api.objects[PODS] = {"items": []}
        yield api


def short_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (access, connection):
        monkeypatch.setattr(module, "CREDENTIALS_WITHIN", 0.1)


def later(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    now = clock.now
    monkeypatch.setattr(clock, "now", lambda: now() + seconds)


def test_programs_in_pods_share_what_was_loaded(server: ApiServer, helper: Helper, tmp_path: Path) -> None:
    api = KubeApi(server.kubeconfig(tmp_path, user=helper.user), namespace="ml")
    for _ in range(3):
        with pytest.raises(CommandFailed, match="404"):  # our server's word
            api.run("head", "ray-head", ["true"])
    api.pods()
    api.close()
    assert helper.runs == 1
    assert {asked.token for asked in server.asked} == {"first"}


def test_a_program_that_hangs_at_the_beginning_is_an_error_that_says_what_to_do(
    server: ApiServer, helper: Helper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short_deadline(monkeypatch)
    helper.hangs()
    with pytest.raises(ClusterError, match=r"program for credentials gave none in 0\.1 s") as refusal:
        KubeApi(server.kubeconfig(tmp_path, user=helper.user), namespace="ml")
    assert "log in again" in refusal.value.fix[0]


@pytest.mark.parametrize("ends", ["", "2020-01-01T00:00:00Z"], ids=["loaded again", "at its end"])
def test_the_token_that_is_there_stays_in_use_while_a_program_hangs(
    server: ApiServer, helper: Helper, ends: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short_deadline(monkeypatch)
    helper.gives("first", ends=ends)
    api = KubeApi(server.kubeconfig(tmp_path, user=helper.user), namespace="ml")
    helper.hangs()
    later(monkeypatch, access._LOOKED_AT_EVERY + 1 if ends else access._RENEWED_EVERY + 1)
    asking = [threading.Thread(target=api.pods, daemon=True) for _ in range(3)]
    begun = time.monotonic()
    for one in asking:
        one.start()
    for one in asking:
        one.join(10.0)
    api.pods()
    assert time.monotonic() - begun < 5.0
    assert [asked.token for asked in server.asked] == ["first"] * 4
    assert helper.runs == 2, "nobody waits for another try"
    api.close()


def test_a_program_that_failed_takes_no_token_away(
    server: ApiServer, helper: Helper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = KubeApi(server.kubeconfig(tmp_path, user=helper.user), namespace="ml")
    helper._token.unlink()
    later(monkeypatch, access._RENEWED_EVERY + 1)
    api.pods()
    helper.gives("second")
    later(monkeypatch, access._AFTER_FAILURE + 1)
    api.pods()
    api.close()
    assert [asked.token for asked in server.asked] == ["first", "second"]


def test_a_token_at_its_end_is_renewed(
    server: ApiServer, helper: Helper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    helper.gives("first", ends="2020-01-01T00:00:00Z")
    api = KubeApi(server.kubeconfig(tmp_path, user=helper.user), namespace="ml")
    helper.gives("second")
    later(monkeypatch, access._LOOKED_AT_EVERY + 1)
    api.pods()
    api.pods()
    api.close()
    assert [asked.token for asked in server.asked] == ["second", "second"]
    assert helper.runs == 2


# -- the deadline itself -----------------------------------------------------------------------------------------------


def test_what_a_call_gives_or_raises_is_given_or_raised() -> None:
    assert within(10.0, lambda: 3) == 3
    with pytest.raises(ZeroDivisionError):
        within(10.0, lambda: 1 // 0)


def test_the_programs_of_a_call_that_takes_too_long_are_killed_and_no_others(tmp_path: Path) -> None:
    started = threading.Event()
    pids: list[int] = []

    def call() -> None:
        program = subprocess.Popen(["sh", "-c", "sleep 60 & echo $!; wait"], stdout=subprocess.PIPE, text=True)
        assert program.stdout is not None
        pids.extend([program.pid, int(program.stdout.readline())])
        started.set()
        program.communicate()

    with subprocess.Popen(["sleep", "60"]) as other:
        thread = deadline._Call(call)
        thread.start()
        assert started.wait(5.0)
        deadline._kill_programs_of(thread.native_id)
        thread.join(5.0)
        assert not thread.is_alive()
        assert other.poll() is None
        other.kill()
    # A process that was killed ends when the kernel comes to it.
    clock.wait_until("both to end", lambda: not any(map(_runs, pids)) or NotYet(f"{pids}"), timeout=5.0, interval=0.01)


def _runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_a_call_that_takes_too_long_is_given_up() -> None:
    released = threading.Event()
    with pytest.raises(TimeoutError, match=r"no answer in 0\.05 s"):
        within(0.05, released.wait)
    released.set()
