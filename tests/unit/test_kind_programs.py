from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Literal

import pytest

from pytest_serve_chaos import clock
from pytest_serve_chaos.cluster.base import ClusterSpec
from pytest_serve_chaos.cluster.kubernetes.client.api import KubeApi
from pytest_serve_chaos.cluster.kubernetes.in_pod import freeze
from pytest_serve_chaos.cluster.kubernetes.kind import docker_machines
from pytest_serve_chaos.cluster.kubernetes.kind import nodes as kind
from pytest_serve_chaos.cluster.kubernetes.kind.nodes import KindNodes
from pytest_serve_chaos.cluster.kubernetes.kind.programs import Programs, find_programs
from pytest_serve_chaos.cluster.kubernetes.kind.settings import KindSettings
from pytest_serve_chaos.cluster.kubernetes.kind.start import start_kind_cluster
from pytest_serve_chaos.cluster.watchdog import Watchdogs
from pytest_serve_chaos.errors import ClusterStartError, CommandFailed, MissingDependency

KUBECONFIG = """
apiVersion: v1
kind: Config
current-context: test
contexts: [{name: test, context: {cluster: test, user: test}}]
clusters: [{name: test, cluster: {server: "http://127.0.0.1:9"}}]
users: [{name: test, user: {token: none}}]
"""


class Channel:
    """An exec whose server has closed: `close` does nothing any more, as websocket-client's does then."""

    def __init__(self, *, ends: bool, returncode: int = 0) -> None:
        self._ends = ends
        self.returncode = returncode
        self.sock = SimpleNamespace(open=True, shutdown=self._shutdown)

    def _shutdown(self) -> None:
        self.sock.open = False

    def run_forever(self, timeout: float) -> None:
        pass

    def is_open(self) -> bool:
        return not self._ends

    def read_stdout(self, timeout: float) -> str:
        return "out"

    def read_stderr(self, timeout: float) -> str:
        return "err"

    def close(self, timeout: float) -> None:
        pass


def api_with(channel: Channel, directory: Path, monkeypatch: pytest.MonkeyPatch) -> KubeApi:
    kubeconfig = directory / "kubeconfig"
    kubeconfig.write_text(KUBECONFIG)
    monkeypatch.setattr("kubernetes.stream.stream", lambda *arguments, **options: channel)
    return KubeApi(kubeconfig, namespace="serve-chaos")


def nodes_with_docker(answer: str, directory: Path, monkeypatch: pytest.MonkeyPatch) -> KindNodes:
    docker = directory / "docker"
    docker.write_text(f"#!/bin/sh\n{answer}\n")
    docker.chmod(0o755)
    monkeypatch.chdir(directory)
    return KindNodes("test", None, directory, Programs(str(docker), "/nonexistent/kind", "/nonexistent/kubectl"))


def test_an_exec_leaves_no_socket_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    channel = Channel(ends=True, returncode=3)
    result = api_with(channel, tmp_path, monkeypatch).run("pod", "ray-head", ["true"])
    assert (result.stdout, result.stderr, result.returncode) == ("out", "err", 3)
    assert not channel.sock.open


def test_an_exec_that_does_not_end_fails_and_leaves_no_socket_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    channel = Channel(ends=False)
    with pytest.raises(CommandFailed, match="did not end in 1 s"):
        api_with(channel, tmp_path, monkeypatch).run("pod", "ray-head", ["sleep"], timeout=1.0)
    assert not channel.sock.open


class Followed(Channel):
    """An exec of a program that prints a line a second, on a clock of its own, and hears what is said to it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(ends=False)
        self.now = 0.0
        self.heard: list[float] = []
        monkeypatch.setattr("pytest_serve_chaos.clock.now", lambda: self.now)

    def readline_stdout(self, timeout: float) -> str:
        self.now += 1.0
        return str(self.now)

    def write_stdin(self, data: str) -> None:
        assert data == "\n"
        self.heard.append(self.now)


def test_a_program_that_is_followed_hears_that_somebody_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    channel, stopped = Followed(monkeypatch), threading.Event()
    api = api_with(channel, tmp_path, monkeypatch)
    for line in api.follow("pod", "ray-head", ["watch"], until=stopped, patience=20.0):
        if line == "20.0":
            stopped.set()
    assert channel.heard == [6.0, 12.0, 18.0]
    assert not channel.sock.open


@pytest.mark.parametrize(
    ("answer", "end"),
    [
        ("echo 'TASK PID STATUS'; echo 'abc 7 RUNNING'", None),
        ("echo 'TASK PID STATUS'; echo 'abc 7 STOPPED'", "stopped"),
        ("echo 'TASK PID STATUS'; echo 'other 8 RUNNING'", "gone from the runtime"),
        ("echo 'exec: ctr: executable file not found in $PATH' >&2; exit 126", None),
        ("true", None),
    ],
)
def test_a_container_has_ended_only_where_its_runtime_says_so(
    answer: str, end: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert nodes_with_docker(answer, tmp_path, monkeypatch).docker.container_end("node", "abc") == end


def nodes_with_scripts(directory: Path, monkeypatch: pytest.MonkeyPatch, **answers: str) -> KindNodes:
    """Nodes whose programs write down what they are asked, and answer as a shell script says."""
    for program in ("docker", "kind", "kubectl"):
        script = directory / program
        script.write_text(f'#!/bin/sh\nprintf "%s\\n" "{program} $*" >>{directory}/asked\n{answers.get(program, "")}\n')
        script.chmod(0o755)
    monkeypatch.chdir(directory)
    paths = (str(directory / program) for program in ("docker", "kind", "kubectl"))
    return KindNodes("test", None, directory / "run", Programs(*paths))


def asked(directory: Path) -> list[str]:
    return (directory / "asked").read_text().splitlines()


def test_kubectl_keeps_what_it_learns_in_the_directory_of_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run").mkdir()
    nodes_with_scripts(tmp_path, monkeypatch).kubectl("get", "nodes")
    (said,) = asked(tmp_path)
    assert said.endswith(f"--cache-dir {tmp_path}/run/private/kubectl-cache get nodes")


def test_a_kind_that_does_not_come_to_its_end_is_killed_while_it_makes_nodes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run").mkdir()
    monkeypatch.setattr(kind, "_CREATED", 2.0)
    nodes = nodes_with_scripts(tmp_path, monkeypatch, kind='[ "$1" = get ] || exec sleep 60')
    begun = clock.now()
    with pytest.raises(ClusterStartError, match="did not create the cluster test") as caught:
        nodes.create({"kind": "Cluster"})
    assert clock.now() - begun < 30
    assert "it did not end in 2 s" in caught.value.checked[0]


def test_a_kind_that_does_not_come_to_its_end_is_killed_while_it_deletes_nodes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run").mkdir()
    monkeypatch.setattr(kind, "_DELETED", 2.0)
    nodes = nodes_with_scripts(tmp_path, monkeypatch, kind="exec sleep 60")
    begun = clock.now()
    with pytest.raises(CommandFailed, match="kind did not end in 2 s") as caught:
        nodes.delete()
    assert clock.now() - begun < 30
    assert caught.value.fix == ("kind delete cluster --name test",)


def test_nodes_are_deleted_by_name_and_what_kind_says_is_in_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run").mkdir()
    nodes = nodes_with_scripts(tmp_path, monkeypatch, kind="echo 'Deleted nodes' >&2")
    nodes.delete()
    assert asked(tmp_path) == [f"kind delete cluster --name test --kubeconfig {nodes.kubeconfig}"]
    assert "Deleted nodes" in nodes.log.read_text()


@pytest.mark.parametrize("status", [0, 1], ids=["some were dropped", "there were none"])
def test_connections_that_nobody_answered_are_dropped_where_they_come_in(
    status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run").mkdir()
    nodes = nodes_with_scripts(tmp_path, monkeypatch, docker=f"exit {status}")
    nodes.docker.forget_connections()
    assert asked(tmp_path) == ["docker exec test-control-plane conntrack --delete --proto tcp --state SYN_SENT"]


class NoWatchdogs:
    """Watchdogs that only say what they would do."""

    def __init__(self) -> None:
        self.watching: dict[str, tuple[float | None, tuple[str, ...]]] = {}

    def watch(
        self,
        claim: str,
        lasts: float | None,
        *,
        longest: float = 600.0,
        command: Sequence[str] = (),
        owned: bool = False,
    ) -> None:
        self.watching[claim] = (lasts, tuple(command))

    def end_of_all_runs(self, is_over: Callable[[str], bool]) -> None:
        self.watching = {claim: what for claim, what in self.watching.items() if not is_over(claim)}

    def end_all(self) -> None:
        self.watching.clear()


@pytest.fixture
def watchdogs(monkeypatch: pytest.MonkeyPatch) -> NoWatchdogs:
    found = NoWatchdogs()
    monkeypatch.setattr(docker_machines, "Watchdogs", lambda: found)
    return found


def test_what_is_done_to_a_machine_is_undone_by_a_watchdog_unless_it_is_healed(
    watchdogs: NoWatchdogs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run").mkdir()
    state = """
case "$*" in
  kill*) echo exited >state;; pause*) echo paused >state;; start*|unpause*) echo running >state;;
  inspect*) cat state;;
esac
"""
    nodes, docker = nodes_with_scripts(tmp_path, monkeypatch, docker=state), str(tmp_path / "docker")
    nodes.docker.end_machine("test-worker", "kill", lasts=90.0)
    assert watchdogs.watching == {"ended:test-worker": (90.0, (docker, "start", "test-worker"))}
    nodes.docker.start_machine("test-worker")
    nodes.docker.pause_machine("test-worker", lasts=20.0)
    assert watchdogs.watching == {"paused:test-worker": (20.0, (docker, "unpause", "test-worker"))}
    nodes.docker.unpause_machine("test-worker")
    assert watchdogs.watching == {}
    nodes.docker.end_machine("test-worker", "kill")
    nodes.delete()
    assert watchdogs.watching == {}


def test_a_watchdog_unpauses_a_machine_that_nobody_has_unpaused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run").mkdir()
    monkeypatch.setattr(docker_machines, "Watchdogs", lambda: Watchdogs(grace=0.1))
    nodes = nodes_with_scripts(tmp_path, monkeypatch, docker='[ "$1" != inspect ] || echo "paused (0)"')
    nodes.docker.pause_machine("test-worker", lasts=0.0)
    deadline = clock.now() + 10.0
    while asked(tmp_path)[-1] != "docker unpause test-worker":
        assert clock.now() < deadline


def test_a_process_on_a_node_is_resumed_if_it_is_the_very_one() -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        try:
            row = freeze.read(str(process.pid))
            assert row is not None
            for started, resumed in ((row.started + 1, False), (row.started, True)):
                process.send_signal(signal.SIGSTOP)
                os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
                subprocess.run(["sh", "-c", docker_machines._RESUME, str(process.pid), str(started)], check=False)
                assert freeze.read(str(process.pid)) == row._replace(stopped=not resumed)
        finally:
            process.kill()


@pytest.mark.usefixtures("watchdogs")
@pytest.mark.parametrize(("how", "command"), [("kill", "kill"), ("stop", "stop --time 30")])
def test_a_machine_has_ended_when_docker_says_so(
    how: Literal["kill", "stop"], command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run").mkdir()
    nodes = nodes_with_scripts(tmp_path, monkeypatch, docker='[ "$1" != inspect ] || echo "exited (137)"')
    assert nodes.docker.end_machine("test-worker", how) == "exited (137)"
    assert asked(tmp_path)[0] == f"docker {command} test-worker"


def test_the_first_process_of_a_container_is_found_on_its_node(
    watchdogs: NoWatchdogs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run").mkdir()
    docker = """
case "$*" in
  *"tasks ls") echo 'TASK PID STATUS'; echo 'abc 712 RUNNING';;
  *"cat /proc/712/stat") echo '712 (redis-server) T 1 712 712 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 7000 0';;
esac
"""
    nodes = nodes_with_scripts(tmp_path, monkeypatch, docker=docker)
    assert nodes.docker.signal_container("test-worker", "abc", 19, lasts=20.0)
    assert "docker exec test-worker kill -19 712" in asked(tmp_path)
    resume = (str(tmp_path / "docker"), "exec", "test-worker", "sh", "-c", docker_machines._RESUME, "712", "7000")
    assert watchdogs.watching == {"stopped:abc": (20.0, resume)}
    nodes.docker.signal_container("test-worker", "abc", 18)
    assert watchdogs.watching == {}
    with pytest.raises(CommandFailed, match="does not run on test-worker"):
        nodes.docker.signal_container("test-worker", "def", 19)


def test_docker_says_in_which_state_the_machines_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run").mkdir()
    docker = """
case "$*" in
  *"label=io.x-k8s.kind.cluster=test "*) echo test-worker paused; echo test-control-plane exited;;
esac
"""
    nodes = nodes_with_scripts(tmp_path, monkeypatch, docker=docker)
    assert nodes.machines() == {"test-worker": "paused", "test-control-plane": "exited"}


@pytest.mark.parametrize(
    ("docker", "ours"),
    [
        ("""echo '{"30800/tcp": [{"HostPort": "4711"}], "30865/tcp": [{"HostPort": "4712"}]}'""", True),
        ("""echo '{"30800/tcp": [{"HostPort": "4711"}]}'""", False),
        ("echo null", False),
        ("exit 1", False),
    ],
)
def test_docker_says_which_node_ports_a_stopped_control_plane_publishes(
    docker: str, ours: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run").mkdir()
    nodes = nodes_with_scripts(tmp_path, monkeypatch, docker=docker)
    assert nodes.publishes(30800, 30865) == ours
    assert asked(tmp_path)[0].endswith(" test-control-plane")


def test_an_image_that_docker_has_not_has_no_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run").mkdir()
    nodes = nodes_with_scripts(tmp_path, monkeypatch, docker='[ "$5" = redis:7.0 ] && echo sha256:1f')
    assert nodes.images.id_of("redis:7.0") == "1f"
    assert nodes.images.id_of("redis:8.0") == ""


def test_no_directory_for_downloads_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nodes_with_docker("true", tmp_path, monkeypatch)
    assert not (tmp_path / ".pytest-kind").exists()


def test_without_the_programs_nothing_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    created: list[str] = []
    directory = tmp_path / "run"
    with pytest.raises(MissingDependency, match="docker, kind, kubectl"):
        start_kind_cluster(ClusterSpec(), KindSettings(), directory, print, on_create=created.append)
    assert created == []
    assert not directory.exists()


def test_a_docker_that_does_not_answer_is_a_missing_dependency(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for program in ("docker", "kind", "kubectl"):
        (tmp_path / program).write_text("#!/bin/sh\necho 'cannot connect to the daemon' >&2\nexit 1\n")
        (tmp_path / program).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    with pytest.raises(MissingDependency, match="Docker does not answer") as caught:
        find_programs()
    assert any("cannot connect" in line for line in caught.value.checked)


THERE = 'case "$*" in *inspect*) echo sha256:abc;; *version*) echo linux/amd64;; esac'


def test_an_image_of_many_platforms_of_which_docker_has_one_is_copied_by_way_of_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run").mkdir()
    refuses = 'case "$*" in *docker-image*) echo "ctr: content digest sha256:d: not found" >&2; exit 1;; esac'
    nodes = nodes_with_scripts(tmp_path, monkeypatch, docker=THERE, kind=refuses)

    assert nodes.images.load(["redis:7.0"], ["test-worker"]) == ()

    saved, loaded = asked(tmp_path)[-2:]
    archive = loaded.rpartition(" ")[2]
    assert saved == f"docker image save --platform linux/amd64 --output {archive} redis:7.0"
    assert loaded == f"kind load image-archive --name test --nodes test-worker {archive}"
    assert not Path(archive).exists()
    assert not list(tmp_path.glob("run/*.tar")), "what is there may be uploaded"


def test_images_that_cannot_be_copied_are_said_with_both_reasons(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run").mkdir()
    docker = THERE.replace("esac", '*save*) echo "unknown flag: --platform" >&2; exit 1;; esac')
    nodes = nodes_with_scripts(tmp_path, monkeypatch, docker=docker, kind="echo 'content digest' >&2; exit 1")

    with pytest.raises(CommandFailed, match=r"redis:7\.0 could not be copied onto the nodes") as caught:
        nodes.images.load(["redis:7.0"], ["test-worker"])

    assert {"content digest", "unknown flag: --platform"} <= {*caught.value.checked}
