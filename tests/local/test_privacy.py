"""What other users of the machine see of a cluster that runs: what Ray shows, and nothing else."""

from __future__ import annotations

import stat
import tempfile
from pathlib import Path

import pytest

from pytest_serve_chaos.cluster.capabilities import HAS_REDIS
from pytest_serve_chaos.cluster.local import processes
from pytest_serve_chaos.cluster.local.redis import LocalRedis
from pytest_serve_chaos.handle import ServeCluster
from tests.capabilities import part

RAY_SHOWS_IT = ("gcs_server", "raylet")
"""Ray gives the password of Redis to these as an argument (Ray 2.60.0)."""


@pytest.fixture
def run(serve_cluster: ServeCluster) -> str:
    return str(serve_cluster.description.details["run"])


@pytest.fixture
def directory(run: str) -> Path:
    """The directory of the run."""
    return Path(tempfile.gettempdir()) / f"serve-chaos-{run[:8]}"


@pytest.fixture
def password(serve_cluster: ServeCluster) -> str:
    redis = part(serve_cluster.backend, HAS_REDIS)
    assert isinstance(redis, LocalRedis)
    return redis.password


def test_no_process_that_the_plugin_starts_shows_the_password_of_redis(run: str, password: str) -> None:
    commands = [process.command for process in processes.marked(run)]
    assert any("start_head" in command for command in commands)
    shows = {Path(command.split(" ")[0]).name for command in commands if password in command}
    assert shows <= set(RAY_SHOWS_IT), shows


def test_nobody_else_can_enter_the_directory_of_the_run(directory: Path) -> None:
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert stat.S_IMODE((directory / "redis.conf").stat().st_mode) == 0o600


def test_no_log_has_the_password_of_redis(directory: Path, password: str) -> None:
    logs = [path for path in directory.rglob("*") if path.suffix in (".log", ".out", ".err") and path.is_file()]
    assert logs
    assert [path.name for path in logs if password.encode() in path.read_bytes()] == []
