from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from pytest_serve_chaos.cluster.base import ClusterSpec
from pytest_serve_chaos.cluster.kind import KindNodes, Programs, find_programs
from pytest_serve_chaos.cluster.kind_cluster import KindSettings, start_kind_cluster
from pytest_serve_chaos.cluster.kuberay.api import KubeApi
from pytest_serve_chaos.errors import CommandFailed, MissingDependency

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
    assert nodes_with_docker(answer, tmp_path, monkeypatch).container_end("node", "abc") == end


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
    assert any("cannot connect" in line for line in caught.value.looked_at)
