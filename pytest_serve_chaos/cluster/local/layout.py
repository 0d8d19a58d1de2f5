"""Where a run's nodes live: a loopback network and a block of ports of its own, chosen under a lock.

Ray opens some 28 listeners on 0.0.0.0 whatever a node's address is, so an address alone isolates nothing (measured with
Ray 2.60); and a Ray cluster of somebody else uses 6379, 8265, 10001-19999 and ports above 32768.
"""

from __future__ import annotations

import errno
import socket
from dataclasses import astuple, dataclass, fields

from pytest_serve_chaos import locks
from pytest_serve_chaos.errors import ClusterStartError, Locked
from pytest_serve_chaos.locks import FileLock

FIRST_PORT = 20_000  # above Ray's default worker ports (10002-19999)
END_PORT = 32_000  # below Linux' ephemeral ports (32768-60999)
BLOCK = 400
SLOTS = (END_PORT - FIRST_PORT) // BLOCK
_SHARED_PORTS = 20
_NODE_PORTS = 10
MOST_WORKERS = (BLOCK - _SHARED_PORTS) // _NODE_PORTS - 1
_REPLICA_PORTS = 200
"""The first of the ports for replicas that HAProxy calls; Serve keeps a port that was used unused for a while."""
_REPLICA_GRPC_PORTS = 350
MOST_WORKERS_WITH_HAPROXY = (_REPLICA_PORTS - _SHARED_PORTS) // _NODE_PORTS - 1


@dataclass(frozen=True, slots=True)
class NodePorts:
    """The ports of one Ray node."""

    node_manager: int
    object_manager: int
    runtime_env_agent: int
    agent_grpc: int
    agent_http: int
    metrics: int
    haproxy_metrics: int
    haproxy_stats: int


@dataclass(frozen=True, slots=True)
class Layout:
    """Addresses and ports of one run."""

    slot: int

    @property
    def network(self) -> str:
        """The first three numbers of the addresses: ``127.x.y``."""
        return f"127.73.{self.slot + 1}"

    @property
    def serve_host(self) -> str:
        """The address that all proxies share."""
        return f"{self.network}.1"

    def address(self, index: int) -> str:
        """The address of node `index`; 0 is the head."""
        return f"{self.network}.{index + 2}"

    @property
    def gcs_port(self) -> int:
        """The GCS."""
        return self._port(0)

    @property
    def dashboard_port(self) -> int:
        """State API and Serve's REST."""
        return self._port(1)

    @property
    def client_port(self) -> int:
        """Ray's client server, which a head always starts."""
        return self._port(2)

    @property
    def redis_port(self) -> int:
        """Redis."""
        return self._port(3)

    @property
    def serve_port(self) -> int:
        """Serve's HTTP proxies."""
        return self._port(4)

    @property
    def fallback_port(self) -> int:
        """The Serve proxy on the head that HAProxy calls where there is no replica."""
        return self._port(5)

    @property
    def fallback_grpc_port(self) -> int:
        """The same, for gRPC."""
        return self._port(6)

    @property
    def replica_ports(self) -> tuple[int, int]:
        """The first and the last port at which HAProxy calls replicas."""
        return self._port(_REPLICA_PORTS), self._port(_REPLICA_GRPC_PORTS) - 1

    @property
    def replica_grpc_ports(self) -> tuple[int, int]:
        """The same, for gRPC."""
        return self._port(_REPLICA_GRPC_PORTS), self._port(BLOCK) - 1

    def node_ports(self, index: int) -> NodePorts:
        """The ports of node `index`; 0 is the head."""
        first = _SHARED_PORTS + index * _NODE_PORTS
        return NodePorts(*(self._port(first + offset) for offset in range(len(fields(NodePorts)))))

    def all_ports(self, nodes: int) -> tuple[int, ...]:
        """Every port that a run with so many nodes needs."""
        shared = (self.gcs_port, self.dashboard_port, self.client_port, self.redis_port, self.serve_port)
        fallback = (self.fallback_port, self.fallback_grpc_port)
        return (*shared, *fallback, *(port for index in range(nodes) for port in astuple(self.node_ports(index))))

    def _port(self, offset: int) -> int:
        return FIRST_PORT + self.slot * BLOCK + offset


@dataclass(frozen=True, slots=True)
class Claim:
    """A layout that is ours as long as the lock is held in some process."""

    layout: Layout
    lock: FileLock


def claim(nodes: int) -> Claim:
    """Takes the first layout that no other run has and whose ports are free.

    Raises:
        ClusterStartError: There is none.
        SafetyError: There is no directory that only this user can write to.
    """
    taken: list[str] = []
    for slot in range(SLOTS):
        try:
            lock = locks.acquire(f"ports-{slot}.lock")
        except Locked:
            taken.append(f"block {slot}: another run has it")
            continue
        layout = Layout(slot)
        busy = next((port for port in layout.all_ports(nodes) if not _is_free(port)), None)
        if busy is None:
            return Claim(layout, lock)
        lock.release()
        taken.append(f"block {slot}: port {busy} is in use")
    raise ClusterStartError(
        f"no block of {BLOCK} ports between {FIRST_PORT} and {END_PORT} is free",
        checked=taken,
        fix=["end what listens on these ports (ss -ltnp shows it)"],
    )


def check_layout(nodes: int) -> str:
    """Checks that a run would find ports and a loopback network; returns them in words.

    Raises:
        ClusterStartError: It would not.
    """
    claimed = claim(nodes)
    claimed.lock.release()
    address = claimed.layout.serve_host
    try:
        with socket.socket() as probe:
            probe.bind((address, 0))
    except OSError as error:
        raise ClusterStartError(
            f"{address} cannot be bound: {error}", fix=["use a machine with all of 127.0.0.0/8, as Linux has it"]
        ) from error
    first = claimed.layout.gcs_port
    return f"{claimed.layout.network}.0, ports {first} to {first + BLOCK - 1}"


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("0.0.0.0", port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise
    return True
