"""HAProxy ingress on a machine that all nodes share: each node's own files and ports, so that no two of them meet.

Ray puts the files of a node into a directory that is named after its id, below one directory for all; the ports are the
same for all nodes unless each node's environment says otherwise (Ray 2.60, ray/serve/_private/haproxy.py).
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from pathlib import Path

from pytest_serve_chaos.cluster.haproxy import Generation, Routes, no_answer, read_routes
from pytest_serve_chaos.cluster.local.layout import Layout
from pytest_serve_chaos.cluster.local.plan import Plan
from pytest_serve_chaos.cluster.local.topology import ProcessTopology

_ANSWERS_WITHIN = 3.0

EVERY_ADDRESS = "0.0.0.0"
"""Where replicas must listen: HAProxy calls those of its own node at 127.0.0.1, and others at the node's address."""


def serve_host(plan: Plan, layout: Layout) -> str:
    """The address that Serve's `http_options` say."""
    return EVERY_ADDRESS if plan.ingress == "haproxy" else layout.serve_host


def haproxy_environment(plan: Plan, layout: Layout, index: int) -> dict[str, str]:
    """What node `index` needs in its environment for HAProxy; nothing where Serve's own proxies take the requests."""
    if plan.ingress != "haproxy":
        return {}
    files = state_directory(plan)
    ports = layout.node_ports(index)
    first, last = layout.replica_ports
    first_grpc, last_grpc = layout.replica_grpc_ports
    return {
        # All listen on one port, as Serve's own proxies do. HAProxy binds it exclusively by default.
        "SERVE_SOCKET_REUSE_PORT_ENABLED": "1",
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(files / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(files / "admin.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(files),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(files / "server-state"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(files / "metrics.sock"),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(ports.haproxy_metrics),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(ports.haproxy_stats),
        # By default it goes to the machine's syslog.
        "RAY_SERVE_HAPROXY_LOG_TARGET": "stdout format raw",
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(layout.fallback_port),
        "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT": str(layout.fallback_grpc_port),
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(first),
        "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(last),
        "RAY_SERVE_DIRECT_INGRESS_MIN_GRPC_PORT": str(first_grpc),
        "RAY_SERVE_DIRECT_INGRESS_MAX_GRPC_PORT": str(last_grpc),
    }


def state_directory(plan: Plan) -> Path:
    """Below which each node's HAProxy has its config, sockets and output.

    Short: below it come the node's id (56 characters) and ``admin.sock.PID.tmp``, and a socket's path has at most 107
    bytes.
    """
    return Path(plan.directory) / "h"


class LocalHAProxy:
    """Looks into the HAProxies of a local cluster. Has the capability `ShowsHAProxy`.

    Args:
        topology: Sees the processes.
    """

    def __init__(self, topology: ProcessTopology) -> None:
        self._topology = topology

    def generations(self) -> Sequence[Generation]:
        """The HAProxy processes that were seen last."""
        return self._topology.haproxies.generations

    def routes(self, generation: Generation) -> Routes:
        """What the admin socket in its directory says.

        Raises:
            ObservationError: It gave no usable answer.
        """
        directory = Path(generation.directory)
        try:
            config = (directory / "haproxy.cfg").read_text()
            with socket.socket(socket.AF_UNIX) as admin:
                admin.settimeout(_ANSWERS_WITHIN)
                admin.connect(str(directory / "admin.sock"))
                admin.sendall(b"show servers state\n")
                with admin.makefile("rb") as answer:
                    state = answer.read().decode(errors="replace")
        except OSError as error:
            raise no_answer(generation, error) from error
        return read_routes(state, config)
