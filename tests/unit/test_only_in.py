"""A program that is run in a pod does nothing in another one that has got its name meanwhile."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from pytest_serve_chaos import clock
from pytest_serve_chaos.clock import NotYet
from pytest_serve_chaos.cluster.kubernetes import in_pod
from pytest_serve_chaos.cluster.kubernetes.client.api import ExecResult, KubeApi
from pytest_serve_chaos.cluster.kubernetes.in_pod import freeze
from pytest_serve_chaos.cluster.kubernetes.rayservice.programs import run_program
from pytest_serve_chaos.errors import NoSuchTarget
from pytest_serve_chaos.model import Json
from tests.unit.rayservices import FakeApi, pod
from tests.unit.test_in_pod_programs import sleeper, started

OURS = "5f1c88a2-0c3e-4c55-9d4b-0a4f6e1f2b3c"
THEIRS = "e0a7d3b1-7777-4d2f-8a11-3c9d5b6e7f80"


def mounts(uid: str, kubelet: str = "/var/lib/kubelet") -> str:
    """What a container of that pod sees: its own mounts, and below a volume of the machine those of another pod."""
    return (
        "1201 1100 0:241 / / rw,relatime - overlay overlay rw,upperdir=/var/lib/containerd/snapshots/77/fs\n"
        f"1215 1201 8:1 {kubelet}/pods/{uid}/etc-hosts /etc/hosts rw,relatime - ext4 /dev/sda1 rw\n"
        f"1216 1202 8:1 {kubelet}/pods/{uid}/containers/ray/1a2b3c4d /dev/termination-log rw - ext4 /dev/sda1 rw\n"
        "1217 1201 8:1 /containerd/sandboxes/9f/hostname /etc/hostname rw - ext4 /dev/sda1 rw\n"
        "1230 1201 0:190 / /host/var/lib/kubelet/pods/0b0b0b0b-0b0b-0b0b-0b0b-0b0b0b0b0b0b/volumes/v rw - tmpfs t rw\n"
    )


NOT_SHOWN = "1 0 0:241 / / rw,relatime - overlay none rw\n"


@pytest.fixture
def run_in(tmp_path: Path) -> RunIn:
    return RunIn(tmp_path)


class RunIn:
    """Runs programs as if this process were in a container.

    Args:
        directory: For what they see, and what they write.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.flags = directory / "flags"

    def __call__(self, seen: str, program: str, uid: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        file = self._directory / "mountinfo"
        file.write_text(seen)
        text = in_pod.command(program, uid)[2]
        assert "/proc/self/mountinfo" in text
        return subprocess.run(
            [sys.executable, "-c", text.replace("/proc/self/mountinfo", str(file)), *arguments],
            capture_output=True,
            text=True,
            check=False,
            env={"SERVE_CHAOS_FLAGS": str(self.flags), "RAY_AUTH_TOKEN": "secret"},
        )


@pytest.mark.parametrize("kubelet", ["/var/lib/kubelet", "/docker/volumes/5d/_data/lib/kubelet", ""])
def test_a_program_runs_in_the_pod_that_it_is_meant_for(run_in: RunIn, kubelet: str) -> None:
    ran = run_in(mounts(OURS, kubelet), "set_flag", OURS, "7", "raise", "60")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert (run_in.flags / "7").read_text() == "raise"


def test_in_another_pod_of_that_name_it_does_nothing(run_in: RunIn) -> None:
    assert run_in(mounts(THEIRS), "set_flag", OURS, "7", "raise", "60").returncode == in_pod.ANOTHER_POD
    assert run_in(mounts(THEIRS), "print_token", OURS).stdout == ""
    assert not run_in.flags.exists()


def test_where_a_container_does_not_show_whose_it_is_a_program_may_only_look(run_in: RunIn) -> None:
    assert run_in(NOT_SHOWN, "set_flag", OURS, "7", "raise", "60").returncode == in_pod.NOT_SHOWN
    assert not run_in.flags.exists()
    assert run_in(NOT_SHOWN, "print_token", OURS).stdout == "secret\n"
    assert run_in(NOT_SHOWN, "set_flag", "", "7", "raise", "60").returncode == 0


def test_no_flag_is_set_for_a_process_that_has_got_the_pid_of_a_replica(run_in: RunIn) -> None:
    with sleeper("ray::ServeReplica:app:Pid") as process:
        pid = str(process.pid)
        assert run_in("", "set_flag", "", pid, "raise", "60", "17").returncode == in_pod.GONE
        assert not run_in.flags.exists()
        assert run_in("", "set_flag", "", pid, "raise", "60", started(process.pid)).returncode == 0
    assert run_in("", "set_flag", "", pid, "raise", "60", "17").returncode == in_pod.GONE
    assert run_in("", "set_flag", "", pid, "").returncode == 0  # to remove one is always right


def test_a_watchdog_is_the_same_program_in_the_same_pod() -> None:
    with sleeper("frozen") as process:
        claim = f"{process.pid}:{started(process.pid)}"
        stop = in_pod.command("freeze", "", freeze.MARK, "stop", "60", claim)
        subprocess.run([sys.executable, *stop[1:]], check=True, capture_output=True)
        assert claim in [one.claim for one in freeze.watchdogs()]
        subprocess.run(
            [sys.executable, *in_pod.command("freeze", "", freeze.MARK, "go", claim)[1:]],
            check=True,
            capture_output=True,
        )

        def ended() -> bool | NotYet:
            return claim not in [one.claim for one in freeze.watchdogs()] or NotYet("there is one")

        # The kernel ends it a moment after SIGKILL was sent.
        clock.wait_until("the watchdog to end", ended, timeout=10.0, interval=0.01)


# -- who runs them -----------------------------------------------------------------------------------------------------


class Answering(FakeApi):
    """A pod in which programs end with the next of some statuses; another one may have its name by now."""

    def __init__(self, *statuses: int, uid: str = OURS) -> None:
        super().__init__(pod(OURS, "head", "10.0.0.1"))
        self.statuses = list(statuses)
        self.uid = uid
        self.ran: list[str] = []

    def run(
        self, name: str, container: str, command: Sequence[str], *, timeout: float = 30.0, stdin: str | None = None
    ) -> ExecResult:
        self.ran.append(command[2].partition("\n")[0])
        return ExecResult("", "", self.statuses.pop(0))

    def call(self, method: str, *arguments: object, what: str, **options: object) -> dict[str, Json]:
        assert method == "read_namespaced_pod"
        return {"metadata": {"uid": self.uid}}


def run(api: Answering) -> int:
    there = replace(pod(OURS, "head", "10.0.0.1"), name="head")
    return run_program(cast("KubeApi", api), there, "tidy").returncode


def test_what_is_not_there_any_more_is_gone() -> None:
    with pytest.raises(NoSuchTarget, match="the pod head was replaced by another one of that name"):
        run(Answering(in_pod.ANOTHER_POD))


def test_where_the_container_does_not_show_it_the_api_server_is_asked_just_before() -> None:
    same = Answering(in_pod.NOT_SHOWN, 0)
    assert (run(same), same.ran) == (0, [f"# in pod {OURS}", "# in pod "])
    other = Answering(in_pod.NOT_SHOWN, uid=THEIRS)
    with pytest.raises(NoSuchTarget, match="replaced by another one"):
        run(other)
    assert other.ran == [f"# in pod {OURS}"]


def test_the_programs_travel_in_a_url() -> None:
    from urllib.parse import quote

    programs = [file.stem for file in Path(in_pod.__file__).parent.glob("*.py")]
    commands = [in_pod.command(name, OURS) for name in programs if not name.startswith("_")]
    assert max(len(quote(command[2])) for command in commands) < 6000
