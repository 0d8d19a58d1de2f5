"""A running local cluster, as the pytest process sees it."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, TypeVar

from pytest_serve_chaos import clock
from pytest_serve_chaos.analysis.configuration import DRAIN_TIMEOUT, Setup
from pytest_serve_chaos.clock import NotYet
from pytest_serve_chaos.cluster import serve_config
from pytest_serve_chaos.cluster.base import Cluster, ClusterSpec, NodeInfo
from pytest_serve_chaos.cluster.capabilities import (
    FREEZES_NODES,
    HAS_REDIS,
    KILLS_ACTORS,
    KILLS_NODES,
    KNOWS_ITS_SETUP,
    SETS_HEALTH_FLAGS,
    SHARES_REDIS,
    SHOWS_CONTROLLER_LOG,
    SHOWS_REPLICA_LOGS,
    SIGNALS_PROCESSES,
    STREAMS_LOGS,
    Capabilities,
    Capability,
    KeptLogs,
)
from pytest_serve_chaos.cluster.http_client import get_if
from pytest_serve_chaos.cluster.local import connections, logs, processes
from pytest_serve_chaos.cluster.local.commands import client_environment, temp_directory
from pytest_serve_chaos.cluster.local.layout import Layout
from pytest_serve_chaos.cluster.local.link import SupervisorLink
from pytest_serve_chaos.cluster.local.log_copies import LogCopies
from pytest_serve_chaos.cluster.local.plan import HEAD_INDEX, Plan, node_name
from pytest_serve_chaos.cluster.local.table import Table
from pytest_serve_chaos.cluster.profiles import drain_timeout
from pytest_serve_chaos.cluster.rest import Dashboard
from pytest_serve_chaos.errors import CommandFailed, NoSuchTarget, ObservationError, Unsupported, WaitTimeout
from pytest_serve_chaos.model import ClusterDescription, Component, Evidence, Identity, Json

T = TypeVar("T")

REDIS = "redis"
_ACCEPTED_WITHIN = 0.25
"""Seconds; a proxy that takes longer to accept a connection is taken for another one, and the next is tried."""


class LocalCluster:
    """Ray nodes as processes of this machine; implements `cluster.base.Cluster` and all its capabilities.

    Args:
        spec: What was asked for.
        plan: What the supervisor runs.
        layout: Its addresses and ports.
        link: The way to the supervisor.
        description: For every report.
        start_alongside: Starts a second cluster on the Redis of this one, under a namespace.
    """

    def __init__(
        self,
        spec: ClusterSpec,
        plan: Plan,
        layout: Layout,
        link: SupervisorLink,
        description: ClusterDescription,
        start_alongside: Callable[[LocalCluster, str], Cluster],
    ) -> None:
        self.spec = spec
        self.plan = plan
        self.layout = layout
        self.link = link
        self._description = description
        self._start_alongside = start_alongside
        self._config = dict(plan.serve_config)
        self._proxies: frozenset[int] = frozenset()
        self._table = Table()
        self._lock = threading.Lock()
        self._capabilities = Capabilities(
            FREEZES_NODES.by(self),
            HAS_REDIS.by(self),
            KILLS_ACTORS.by(self),
            KILLS_NODES.by(self),
            KNOWS_ITS_SETUP.by(self),
            SETS_HEALTH_FLAGS.by(self),
            SHARES_REDIS.by(self),
            SHOWS_CONTROLLER_LOG.by(self),
            SHOWS_REPLICA_LOGS.by(self),
            SIGNALS_PROCESSES.by(self),
            STREAMS_LOGS.by(self),
        )
        self._dashboard = Dashboard(
            f"http://{layout.address(HEAD_INDEX)}:{layout.dashboard_port}", {"Authorization": f"Bearer {plan.secret}"}
        )

    # -- cluster.base.Cluster -----------------------------------------------------------------------------------

    @property
    def description(self) -> ClusterDescription:
        """What is under test, for every report."""
        return self._description

    @property
    def url(self) -> str:
        """The address that all proxies share, with the route of the first app."""
        return f"http://{self.layout.serve_host}:{self.layout.serve_port}{serve_config.first_route(self._config)}"

    @property
    def dashboard(self) -> Dashboard:
        """Ray's state API and Serve's REST on the head."""
        return self._dashboard

    @property
    def serve_config(self) -> dict[str, Json]:
        """The Serve config that the cluster should run."""
        with self._lock:
            return dict(self._config)

    def apply_serve_config(self, config: Mapping[str, Json]) -> None:
        """Submits the config, and keeps it submitted from now on."""
        address: dict[str, Json] = {"host": self.layout.serve_host, "port": self.layout.serve_port}
        self._dashboard.put_serve({**config, "http_options": address})
        with self._lock:
            self._config = dict(config)
        self.link.command("config", config=dict(config))

    def nodes(self) -> tuple[NodeInfo, ...]:
        """The nodes, as the supervisor reports them."""
        units = self.link.units()
        found = []
        for index in range(self.plan.workers + 1):
            unit = units.get(node_name(index))
            alive = unit is not None and unit.state == "up"
            identity = unit.identity if unit is not None and alive else None
            found.append(NodeInfo(node_name(index), self.layout.address(index), alive, identity))
        return tuple(found)

    def components(self) -> tuple[Component, ...]:
        """What lives in the sessions of the nodes and of Redis, from the process table."""
        found = self._table.components(self.link.sessions())
        self._proxies = frozenset(c.pid for c in found if c.role == "proxy" and c.pid is not None)
        return found

    def proxy_of(self, client: tuple[str, int]) -> Identity | None:
        """The proxy that has accepted the connection from `client`."""
        pid = connections.owner((self.layout.serve_host, self.layout.serve_port), client, self._proxies)
        process = None if pid is None else processes.read(pid)
        return None if process is None else process.identity

    def ask_proxy(self, proxy: Component, path: str, *, timeout: float) -> tuple[int, str]:
        """Opens connections to the shared port until one is that proxy's, and asks there."""
        if proxy.pid is None or not processes.alive(proxy.identity):
            raise ObservationError(f"{proxy.name} is gone")
        server, pid = (self.layout.serve_host, self.layout.serve_port), proxy.pid

        def accepted_by_it(client: tuple[str, int]) -> bool:
            return _accepted_by(server, client, {pid}) == pid

        def ask() -> tuple[int, str] | NotYet:
            try:
                answer = get_if(f"http://{server[0]}:{server[1]}{path}", accepted_by_it, timeout=timeout)
            except OSError as error:
                return NotYet(str(error))
            return answer or NotYet("the connections went to other proxies")

        try:
            return clock.wait_until(f"{proxy.name} to answer {path}", ask, timeout=timeout, interval=0.01)
        except WaitTimeout as error:
            raise ObservationError(str(error)) from error

    def capability(self, wanted: Capability[T]) -> T | None:
        """The object that has a capability of this cluster; None if it cannot do that."""
        return self._capabilities.get(wanted)

    def log_excerpt(self, since: float, *, pattern: str | None = None, lines: int = 40) -> tuple[str, ...]:
        """The last log lines of Ray and Serve, of all nodes."""
        return logs.excerpt(Path(self.plan.directory), since, pattern=pattern, lines=lines)

    def stream_logs(self, directory: Path) -> KeptLogs:
        """What is logged from now on is copied there if the test fails; until then it stands in files anyway."""
        nodes = {temp_directory(self.plan, index).name: node_name(index) for index in range(self.plan.workers + 1)}
        return LogCopies(Path(self.plan.directory), nodes, directory)

    def close(self) -> None:
        """Ends all processes and removes the run's directory."""
        self._dashboard.close()
        self.link.close()

    # -- capabilities -------------------------------------------------------------------------------------------

    def kill_node(self, name: str, *, how: Literal["kill", "stop"], hold: bool) -> Sequence[Evidence]:
        """Ends every process of the node's session; returns when none is left."""
        return self._end(name, how, hold)

    def restore_node(self, name: str) -> None:
        """The node may be started again now."""
        self.link.command("restore", name=name)

    @property
    def redis_namespace(self) -> str:
        """The namespace of this run's GCS."""
        return self.plan.namespace

    def kill_redis(self, *, how: Literal["kill", "stop"], hold: bool) -> Sequence[Evidence]:
        """Ends Redis."""
        self._check_redis()
        return self._end(REDIS, how, hold)

    def restore_redis(self) -> None:
        """Redis may be started again now."""
        self.link.command("restore", name=REDIS)

    def redis_keys(self) -> tuple[str, ...]:
        """All keys in Redis."""
        self._check_redis()
        return redis_keys(self.redis_address, self.plan.redis_password)

    @property
    def redis_address(self) -> str:
        """``host:port`` of Redis."""
        return self.plan.redis_address or f"{self.layout.serve_host}:{self.layout.redis_port}"

    def start_alongside(self, namespace: str | None = None) -> Cluster:
        """Starts a head alone on the same Redis; under a namespace of its own unless one is given."""
        self._check_redis()
        return self._start_alongside(self, namespace or f"{self.plan.namespace}-alongside")

    def signal_process(self, identity: Identity, signal: int) -> None:
        """Sends the signal to that very process of this cluster."""
        pid = int(identity.parts[1])
        with contextlib.suppress(ProcessLookupError):
            if os.getsid(pid) not in self.link.sessions():
                raise NoSuchTarget(f"{identity} does not belong to this cluster")
        if not processes.send(identity, signal):
            raise NoSuchTarget(f"{identity} is gone", checked=[f"/proc/{pid}/stat"])

    def freeze_node(self, name: str) -> Sequence[Evidence]:
        """Stops every process of the node's session."""
        answer = self.link.command("freeze", name=name)
        stopped = answer["processes"]
        assert isinstance(stopped, list)
        states = [str(p["state"]) for p in stopped if isinstance(p, dict)]
        if not states or any(state != "T" for state in states):
            raise CommandFailed(f"{name} could not be frozen", checked=[f"states of its processes: {states}"])
        return (Evidence(clock.now(), "victim", f"all {len(states)} processes of {name} are stopped (state T)"),)

    def thaw_node(self, name: str) -> None:
        """Resumes every process of the node."""
        self.link.command("thaw", name=name)

    def kill_actor(self, actor_id: str, *, no_restart: bool) -> float:
        """Kills an actor of Serve with `ray.kill`; returns when (monotonic seconds)."""
        name = next((a.name for a in self._dashboard.actors() if a.actor_id == actor_id), None)
        if name is None:
            raise NoSuchTarget(f"there is no actor {actor_id}", checked=["the state API's actors that are not DEAD"])
        module = "pytest_serve_chaos.cluster.local.programs.kill_actor"
        log = Path(self.plan.directory) / "programs.log"
        with log.open("ab") as errors:
            done = subprocess.run(
                [sys.executable, "-m", module, name, "no_restart" if no_restart else "restart"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
                env=client_environment(self.plan, self.layout),
                timeout=60,
                check=False,
            )
        if done.returncode != 0:
            raise CommandFailed(
                f"ray.kill of {name} failed with status {done.returncode}", checked=[log.read_text()[-800:]]
            )
        return float(json.loads(done.stdout)["asked"])

    def set_health_flag(self, replica: Component, mode: Literal["raise", "hang"]) -> None:
        """Writes the flag that the replica's health check reads."""
        self._flag(replica).write_text(mode)

    def clear_health_flag(self, replica: Component) -> None:
        """Removes the flag."""
        self._flag(replica).unlink(missing_ok=True)

    def controller_log(self, *, pattern: str, since: float) -> tuple[str, ...]:
        """Lines of the controllers' logs."""
        return logs.excerpt(
            Path(self.plan.directory), since, pattern=pattern, lines=1000, files="**/serve/controller_*.log"
        )

    def replica_log(self, replica: Component, *, since: float) -> tuple[str, ...]:
        """Lines of that replica's log."""
        name = (replica.replica or "").rpartition("#")[2]
        files = f"**/serve/replica_*_{name}.log"
        return logs.excerpt(Path(self.plan.directory), since, pattern=None, lines=2000, files=files) if name else ()

    def setup(self) -> Setup:
        """Redis without persistence, which no node's loss reaches: nodes are sessions of one machine."""
        drain = drain_timeout(self.plan.worker_env, self._description.ray_version)
        limits = {} if drain is None else {DRAIN_TIMEOUT: drain}
        return Setup(redis_persists=None if not self.plan.has_redis else False, drain_limits=limits)

    # -- the rest -----------------------------------------------------------------------------------------------

    def describe(self, **changes: str | int) -> None:
        """Changes the description, when more is known."""
        self._description = replace(self._description, **changes)  # type: ignore[arg-type]

    def _flag(self, replica: Component) -> Path:
        return Path(self.plan.directory) / "flags" / str(replica.pid)

    def _check_redis(self) -> None:
        if not self.plan.has_redis:
            raise Unsupported(
                "this cluster has no Redis, because its GCS fault tolerance is off",
                fix=["ask for one with @pytest.mark.serve_cluster(gcs='redis')"],
            )

    def _end(self, name: str, how: str, hold: bool) -> Sequence[Evidence]:
        timeout = self.plan.termination_grace + 15.0
        answer = self.link.command("end", timeout=timeout, name=name, how=how, hold=hold)
        killed = answer["killed"]
        assert isinstance(killed, list)
        if not killed:
            return ()
        at = answer["at"]
        assert isinstance(at, float)
        text = f"none of the {len(killed)} processes of {name} is left"
        return (Evidence(at, "victim", text),)


def redis_keys(address: str, password: str) -> tuple[str, ...]:
    """All keys in a Redis, by its own protocol (two commands are no reason for a client library).

    Raises:
        ObservationError: It gave no usable answer.
    """
    host, _, port = address.rpartition(":")
    try:
        with (
            socket.create_connection((host, int(port)), timeout=5.0) as connection,
            connection.makefile("rb") as answers,
        ):
            connection.sendall(f"AUTH {password}\r\nKEYS *\r\n".encode())
            if not answers.readline().startswith(b"+OK"):
                raise ObservationError(f"Redis at {address} refused the password")
            count = int(answers.readline()[1:])
            keys = []
            for _ in range(count):
                length = int(answers.readline()[1:])
                keys.append(answers.read(length + 2)[:-2].decode(errors="replace"))
            return tuple(keys)
    except (OSError, ValueError) as error:
        raise ObservationError(f"Redis at {address} did not answer: {error}") from error


def _accepted_by(server: tuple[str, int], client: tuple[str, int], candidates: set[int]) -> int | None:
    """The process that accepted the connection; None if no candidate did, or nobody did in time."""

    def look() -> int | NotYet:
        return connections.accepted(server, client) or NotYet("nobody")

    try:
        inode = clock.wait_until("the connection to be accepted", look, timeout=_ACCEPTED_WITHIN, interval=0.005)
    except WaitTimeout:
        return None
    return connections.holder(inode, candidates)
