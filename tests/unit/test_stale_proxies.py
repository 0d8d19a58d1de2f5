"""Proxies whose controller a run has killed for good are marked where they run, so that anybody can replace them."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from signal import SIGKILL
from typing import cast

import pytest

from pytest_serve_chaos.cluster.capabilities import RECORDS_STALE_PROXIES
from pytest_serve_chaos.cluster.kubernetes import in_pod
from pytest_serve_chaos.cluster.kubernetes.client.api import ExecResult, KubeApi
from pytest_serve_chaos.cluster.kubernetes.external.stale_proxies import replace_stale
from pytest_serve_chaos.cluster.kubernetes.in_pod import stale
from pytest_serve_chaos.errors import CommandFailed, NoSuchTarget, WaitTimeout
from pytest_serve_chaos.model import Component, Identity, Role
from tests.capabilities import part
from tests.unit.external_services import external
from tests.unit.rayservices import FakeApi, pod
from tests.unit.test_in_pod_programs import sleeper, started

HEAD, WORKER = pod("h", "head", "10.0.0.1"), pod("w", "worker", "10.0.0.2")


def component(role: Role, uid: str, pid: int) -> Component:
    node = "head" if uid == "h" else "worker-1"
    return Component(role, node, Identity("process", (uid, f"container-{uid}", str(pid), "7")), pid)


CONTROLLER, PROXIES = component("controller", "h", 50), [component("proxy", "h", 60), component("proxy", "w", 61)]


class Pods(FakeApi):
    """Two pods with processes, and marks.

    Attributes:
        living: ``PID`` of each process that is there.
        marks: Pod -> what was marked there, as the program lists it.
        killed: The PIDs that were killed, in order.
        events: What happened, in order.
        fails: A program that fails.
    """

    def __init__(self) -> None:
        super().__init__(HEAD, WORKER)
        self.living = {"50", "60", "61"}
        self.marks: dict[str, list[list[str]]] = {}
        self.killed: list[str] = []
        self.events: list[str] = []
        self.fails = ""
        self.comes_back = True

    def run(
        self, name: str, container: str, command: Sequence[str], *, timeout: float = 30.0, stdin: str | None = None
    ) -> ExecResult:
        program = "stale" if command[2] == in_pod.command("stale", name.removeprefix("pod-"))[2] else "signal"
        what, *arguments = command[3:]
        if self.fails == what:
            return ExecResult("", "no", 1)
        if program == "signal":
            return self._signal(what, int(arguments[1]))
        self.events.append(f"{what} {name}")
        if what == "mark":
            text, *proxies = arguments
            self.marks[name] = [[*proxy.split("-"), text] for proxy in proxies]
        elif what == "forget":
            self.marks.pop(name, None)
        return ExecResult(json.dumps([one for one in self.marks.get(name, []) if one[0] in self.living]), "", 0)

    def _signal(self, pid: str, number: int) -> ExecResult:
        if pid not in self.living:
            return ExecResult("", "", in_pod.GONE)
        if number == SIGKILL:
            self.events.append(f"kill {pid}")
            self.living.remove(pid)
        return ExecResult("", "", 0)

    def proxy_get(self, name: str, port: int, path: str, *, timeout: float) -> tuple[int, str]:
        self.events.append(f"ask {name}:{port}{path}")
        return (200, "success") if self.comes_back else (503, "draining")

    def record(self) -> Callable[[], None]:
        self.events.append("on record")
        return lambda: self.events.append("off record")


@pytest.fixture
def pods() -> Pods:
    return Pods()


def marked(pods: Pods) -> Callable[[], None]:
    """Marks both proxies; returns what takes them off the record."""
    cluster = external(api=pods, on_stale=pods.record)
    return part(cluster, RECORDS_STALE_PROXIES).stale_after(CONTROLLER, PROXIES)


def replaced(pods: Pods) -> list[str]:
    said: list[str] = []
    replace_stale(cast("KubeApi", pods), pods.pods(), 8000, said.append)
    return said


def test_they_are_on_record_before_they_are_marked_and_until_they_are_healed(pods: Pods) -> None:
    off_record = marked(pods)
    assert pods.events == ["on record", "mark pod-h", "mark pod-w"]
    assert pods.marks["pod-w"] == [["61", "7", "h container-h 50 7"]]
    off_record()
    assert pods.events[3:] == ["forget pod-h", "forget pod-w", "off record"]
    assert pods.marks == {}


def test_what_cannot_be_marked_is_not_begun(pods: Pods) -> None:
    pods.fails = "mark"
    with pytest.raises(CommandFailed, match="stale failed in pod pod-h"):
        marked(pods)
    pods.ray_pods = [HEAD]
    with pytest.raises(NoSuchTarget):
        marked(pods)


def test_a_mark_that_cannot_be_removed_keeps_the_record(pods: Pods) -> None:
    off_record = marked(pods)
    pods.fails = "forget"
    with pytest.raises(CommandFailed):
        off_record()
    assert "off record" not in pods.events


def test_a_pod_that_has_gone_took_its_mark_along(pods: Pods) -> None:
    off_record = marked(pods)
    pods.ray_pods = [HEAD]
    off_record()
    assert pods.events[-2:] == ["forget pod-h", "off record"]


def test_those_that_are_left_are_replaced_one_after_the_other(pods: Pods) -> None:
    marked(pods)
    pods.living.remove("50")  # the controller, by the run that then was killed
    pods.events.clear()
    assert len(replaced(pods)) == 2
    assert [event for event in pods.events if event.startswith(("kill", "ask"))] == [
        "kill 60",
        "ask pod-h:8000/-/healthz",
        "kill 61",
        "ask pod-w:8000/-/healthz",
    ]
    assert (pods.marks, replaced(pods)) == ({}, [])


def test_those_that_were_replaced_already_are_left_alone(pods: Pods) -> None:
    marked(pods)
    pods.living -= {"50", "60"}
    replaced(pods)
    assert [event for event in pods.events if event.startswith("kill")] == ["kill 61"]


def test_while_their_controller_lives_they_are_not_stale(pods: Pods) -> None:
    marked(pods)
    assert replaced(pods) == []
    assert (pods.living, pods.marks) == ({"50", "60", "61"}, {})


def test_a_proxy_that_does_not_come_back_keeps_the_others_alive(pods: Pods, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytest_serve_chaos.cluster.kubernetes.external.stale_proxies._REPLACED_WITHIN", 0.01)
    marked(pods)
    pods.living.remove("50")
    pods.comes_back = False
    with pytest.raises(WaitTimeout, match=r"a new proxy in the pod pod-h.*status 503: draining"):
        replaced(pods)
    assert pods.living == {"61"}


# -- the program -------------------------------------------------------------------------------------------------------


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(stale, "DIRECTORY", str(tmp_path / "marks"))
    return tmp_path / "marks"


def listed(capsys: pytest.CaptureFixture[str]) -> list[list[str]]:
    stale.main("list")
    found: list[list[str]] = json.loads(capsys.readouterr().out)
    return found


def test_a_mark_lasts_as_long_as_its_process(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert listed(capsys) == []
    with sleeper("proxy") as process:
        proxy = [str(process.pid), started(process.pid)]
        stale.main("mark", "u c 50 7", "-".join(proxy), f"{process.pid}-1", f"{os.getpid()}-{started(os.getpid())}")
        ours = [str(os.getpid()), started(os.getpid()), "u c 50 7"]
        assert sorted(listed(capsys)) == sorted([[*proxy, "u c 50 7"], ours])
    assert listed(capsys) == [ours]
    stale.main("forget")
    assert listed(capsys) == []
    assert not directory.exists()


def test_it_runs_as_text(tmp_path: Path) -> None:
    text = in_pod.source("stale").replace("/tmp/", f"{tmp_path}/")
    ran = subprocess.run(["python3", "-c", text, "list"], capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"
