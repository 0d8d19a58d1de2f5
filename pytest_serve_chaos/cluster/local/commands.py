"""The command lines and environments of Redis and of the Ray nodes."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pytest_serve_chaos.cluster import storage
from pytest_serve_chaos.cluster.local import processes
from pytest_serve_chaos.cluster.local.haproxy import haproxy_environment
from pytest_serve_chaos.cluster.local.layout import Layout
from pytest_serve_chaos.cluster.local.plan import HEAD_INDEX, Plan, node_name
from pytest_serve_chaos.cluster.local.programs import start_head
from pytest_serve_chaos.cluster.local.redis_config import redis_config_path

_OBJECT_STORE = 100 * 1024 * 1024  # bytes; Ray's least is 75 MiB
FLAGS = "SERVE_CHAOS_FLAGS"
"""The environment variable that tells our apps where the flags of the health check fault are."""


@dataclass(frozen=True, slots=True)
class Command:
    """A program with its arguments and its whole environment."""

    name: str
    arguments: tuple[str, ...] = field(repr=False)
    environment: Mapping[str, str] = field(repr=False)
    log: Path
    niceness: int = 0


def redis_command(plan: Plan) -> Command:
    """Redis, with what `redis_config` says."""
    assert plan.redis_server is not None
    arguments = (plan.redis_server, str(redis_config_path(plan)))
    return Command("redis", arguments, _base_environment(plan), Path(plan.directory) / "redis.log")


def node_command(plan: Plan, layout: Layout, index: int) -> Command:
    """`ray start --block` for node `index`; 0 is the head."""
    name = node_name(index)
    start = (*_ray_start(plan, index), "--block", "--disable-usage-stats")
    specific = _head_arguments(plan, layout) if index == HEAD_INDEX else _worker_arguments(plan, layout)
    arguments = (*start, f"--temp-dir={temp_directory(plan, index)}", *_node_arguments(layout, index), *specific)
    environment = _node_environment(plan, layout, index)
    # The head before the workers: `ray start` gives up on a head that is not there after 30 s.
    niceness = 5 if index == HEAD_INDEX else 10
    return Command(name, arguments, environment, Path(plan.directory) / f"{name}.log", niceness)


def _ray_start(plan: Plan, index: int) -> tuple[str, ...]:
    """`ray start`, of the head with the password that its environment has."""
    if plan.has_redis and index == HEAD_INDEX:
        return sys.executable, str(Path(start_head.__file__))  # a path: the node's PYTHONPATH may be the user's
    return sys.executable, "-m", "ray.scripts.scripts", "start"


def temp_directory(plan: Plan, index: int) -> Path:
    """Where node `index` has its sockets and logs.

    Not one for all, as Ray does on one machine: two nodes that start within a second then choose the same name for
    their raylet's socket, one raylet dies of it, and its `ray start` notices only after 30 s. An older Ray has one for
    all in spite of this (`Plan.one_directory`).
    """
    # The head's is also where Ray's own programs look for a cluster, see RAY_TMPDIR below.
    return Path(plan.directory) / ("ray" if index == HEAD_INDEX else f"w{index}")


def client_environment(plan: Plan, layout: Layout) -> dict[str, str]:
    """The environment of a program that joins the cluster as a Ray driver."""
    return {**_ray_environment(plan), "RAY_ADDRESS": f"{layout.address(HEAD_INDEX)}:{layout.gcs_port}"}


def _node_arguments(layout: Layout, index: int) -> tuple[str, ...]:
    ports = layout.node_ports(index)
    options = {
        "node-ip-address": layout.address(index),
        "object-store-memory": _OBJECT_STORE,
        "node-manager-port": ports.node_manager,
        "object-manager-port": ports.object_manager,
        "runtime-env-agent-port": ports.runtime_env_agent,
        "dashboard-agent-grpc-port": ports.agent_grpc,
        "dashboard-agent-listen-port": ports.agent_http,
        "metrics-export-port": ports.metrics,
        "min-worker-port": 0,  # 0: the kernel chooses, so workers of two runs cannot meet
        "max-worker-port": 0,
    }
    return tuple(f"--{name}={value}" for name, value in options.items())


def _head_arguments(plan: Plan, layout: Layout) -> tuple[str, ...]:
    return (
        "--head",
        f"--port={layout.gcs_port}",
        f"--dashboard-host={layout.address(HEAD_INDEX)}",
        f"--dashboard-port={layout.dashboard_port}",
        f"--ray-client-server-port={layout.client_port}",
        "--num-cpus=0",
    )


def _worker_arguments(plan: Plan, layout: Layout) -> tuple[str, ...]:
    return (f"--address={layout.address(HEAD_INDEX)}:{layout.gcs_port}", f"--num-cpus={plan.cpus}")


def _node_environment(plan: Plan, layout: Layout, index: int) -> dict[str, str]:
    environment = _ray_environment(plan)
    environment[FLAGS] = str(Path(plan.directory) / "flags")
    if plan.rocksdb and index == HEAD_INDEX:
        environment |= {storage.KIND: storage.ROCKSDB, storage.PATH: plan.rocksdb}
    environment |= haproxy_environment(plan, layout, index)
    environment |= plan.head_env if index == HEAD_INDEX else plan.worker_env
    if plan.has_redis and index == HEAD_INDEX:
        environment |= {
            "RAY_REDIS_ADDRESS": plan.redis_address or f"{layout.serve_host}:{layout.redis_port}",
            "RAY_REDIS_PASSWORD": plan.redis_password,
            "RAY_external_storage_namespace": plan.namespace,
        }
    return environment


def _ray_environment(plan: Plan) -> dict[str, str]:
    return {
        **_base_environment(plan),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": plan.secret,
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_TMPDIR": str(temp_directory(plan, HEAD_INDEX)),
        "PYTHONPATH": python_path(),
        "PYTHONUNBUFFERED": "1",
    }


def inherited_environment() -> dict[str, str]:
    """This process's environment, without what the user's own shell says about some other Ray cluster or run."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "SERVE_CHAOS_", "PYTEST_"))}


def _base_environment(plan: Plan) -> dict[str, str]:
    # What Ray's processes leave in the directory for temporary files goes with the run.
    return {
        **inherited_environment(),
        processes.MARK: plan.run,
        "TMPDIR": str(Path(plan.directory) / "tmp"),
        # Else setproctitle writes the title of Ray's agents over their environment, and so over the mark.
        "SPT_NOENV": "1",
    }


def python_path() -> str:
    """The user's directory and whatever pytest put first, so that ``module:app`` is found as the tests find it."""
    package = str(Path(__file__).resolve().parents[3])
    given = os.environ.get("PYTHONPATH", "")
    return os.pathsep.join(dict.fromkeys(p for p in (os.getcwd(), package, *given.split(os.pathsep)) if p))
