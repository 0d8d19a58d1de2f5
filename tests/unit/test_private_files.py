"""What holds credentials is in a directory of the run that nobody else can enter."""

from __future__ import annotations

import stat
import sys
from pathlib import Path

import pytest

from pytest_serve_chaos.cluster import commands
from pytest_serve_chaos.cluster.kubernetes.kind.nodes import KindNodes
from pytest_serve_chaos.cluster.kubernetes.kind.programs import Programs
from pytest_serve_chaos.cluster.private_files import private_directory
from pytest_serve_chaos.errors import CommandFailed


def test_nobody_else_can_enter_the_private_directory(tmp_path: Path) -> None:
    (tmp_path / "private").mkdir(mode=0o755)
    for _ in range(2):
        assert stat.S_IMODE(private_directory(tmp_path).stat().st_mode) == 0o700


def test_the_kubeconfig_of_a_kind_cluster_is_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(KindNodes, "_pytest_kind", lambda *_: None)
    nodes = KindNodes("test", None, tmp_path, Programs("docker", "kind", "kubectl"))
    assert nodes.kubeconfig == private_directory(tmp_path) / "kubeconfig"


def test_what_a_program_prints_is_not_logged_but_what_it_complains_of_is(tmp_path: Path) -> None:
    log = tmp_path / "kind.log"
    says = "import sys; print('password: hunter2'); print('warning', file=sys.stderr)"
    assert commands.run([sys.executable, "-c", says], log=log, timeout=10.0) == "password: hunter2\n"
    _, said = log.read_text().splitlines()
    assert said == "warning"


def test_what_a_program_prints_as_it_fails_is_logged_where_it_complains_of_nothing(tmp_path: Path) -> None:
    log = tmp_path / "kind.log"
    with pytest.raises(CommandFailed):
        commands.run([sys.executable, "-c", "print('no such cluster'); exit(1)"], log=log, timeout=10.0)
    assert log.read_text().endswith("no such cluster\n")
