"""A running local cluster and its Serve config, as the pytest process sees them."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from typing import TypeVar, cast

from pytest_serve_chaos.cluster.base import ClusterSpec, NodeInfo
from pytest_serve_chaos.cluster.capabilities import Capabilities, Capability, Offer
from pytest_serve_chaos.cluster.local.haproxy import serve_host
from pytest_serve_chaos.cluster.local.layout import Layout
from pytest_serve_chaos.cluster.local.link import SupervisorLink
from pytest_serve_chaos.cluster.local.plan import Plan
from pytest_serve_chaos.cluster.local.proxies import PortProxies
from pytest_serve_chaos.cluster.local.view import LocalView
from pytest_serve_chaos.cluster.rest import Dashboard
from pytest_serve_chaos.cluster.serve_config import first_route
from pytest_serve_chaos.model import ClusterDescription, Component, Identity, Json

T = TypeVar("T")


class RunningConfig:
    """A Serve config that runs.

    Args:
        plan: Has the config.
        layout: Has the address of the proxies.
        dashboard: Takes another one.
        link: The way to the supervisor, which submits the config again where Serve has lost it.
    """

    def __init__(self, plan: Plan, layout: Layout, dashboard: Dashboard, link: SupervisorLink) -> None:
        self._config = dict(plan.serve_config)
        self._host = serve_host(plan, layout)
        self._port = layout.serve_port
        self._dashboard = dashboard
        self._link = link
        self._lock = threading.Lock()

    @property
    def now(self) -> dict[str, Json]:
        """The config that should run now."""
        with self._lock:
            return dict(self._config)

    def change(self, config: Mapping[str, Json]) -> None:
        """Submits another config, and keeps it submitted from now on.

        Raises:
            CommandFailed: It was refused; then it is not changed.
        """
        given = cast("dict[str, Json]", config.get("http_options") or {})
        address: dict[str, Json] = {"host": self._host, "port": self._port}
        self._dashboard.put_serve({**config, "http_options": {**given, **address}})
        with self._lock:
            self._config = dict(config)
        self._link.command("config", config=dict(config))


class LocalCluster:
    """Ray nodes as processes of this machine; implements `cluster.base.Cluster`.

    Args:
        spec: What was asked for.
        view: What its parts work with.
        description: What it is, for reports.
        offers: What it can do, and which part does it.
    """

    def __init__(
        self, spec: ClusterSpec, view: LocalView, description: ClusterDescription, offers: Iterable[Offer]
    ) -> None:
        layout = view.layout
        self.spec = spec
        self._view = view
        self._description = description
        self._config = RunningConfig(view.plan, layout, view.dashboard, view.link)
        self._proxies = PortProxies((layout.serve_host, layout.serve_port), view.topology.proxies)
        self._capabilities = Capabilities(*offers)

    @property
    def description(self) -> ClusterDescription:
        """What is under test, for every report."""
        return self._description

    @property
    def url(self) -> str:
        """The address that all proxies share, with the route of the first app."""
        layout = self._view.layout
        return f"http://{layout.serve_host}:{layout.serve_port}{first_route(self._config.now)}"

    @property
    def dashboard(self) -> Dashboard:
        """Ray's state API and Serve's REST on the head."""
        return self._view.dashboard

    @property
    def serve_config(self) -> dict[str, Json]:
        """The Serve config that the cluster should run."""
        return self._config.now

    def apply_serve_config(self, config: Mapping[str, Json]) -> None:
        """Submits the config, and keeps it submitted from now on.

        Raises:
            CommandFailed: It was refused.
        """
        self._config.change(config)

    def nodes(self) -> tuple[NodeInfo, ...]:
        """The nodes, as the supervisor reports them."""
        return self._view.topology.nodes()

    def components(self) -> tuple[Component, ...]:
        """What lives in the sessions of the nodes and of Redis, from the process table."""
        return self._view.topology.components()

    def proxy_of(self, client: tuple[str, int]) -> Identity | None:
        """The proxy that has accepted the connection from `client`."""
        return self._proxies.of(client)

    def ask_proxy(self, proxy: Component, path: str, *, timeout: float) -> tuple[int, str]:
        """Opens connections to the shared port until one is that proxy's, and asks there.

        Raises:
            ObservationError: The proxy is gone, or it gave no answer in `timeout` seconds.
        """
        return self._proxies.ask(proxy, path, timeout=timeout)

    def capability(self, wanted: Capability[T]) -> T | None:
        """The part that has a capability; None if none has."""
        return self._capabilities.get(wanted)

    def log_excerpt(self, since: float, *, pattern: str | None = None, lines: int = 40) -> tuple[str, ...]:
        """The last log lines of Ray and Serve, of all nodes."""
        return self._view.logs.excerpt(since, pattern=pattern, lines=lines)

    def close(self) -> None:
        """Ends all processes and removes the run's directory."""
        self._view.close()
