"""The Serve config that a local cluster runs, and how it is changed."""

from __future__ import annotations

import threading
from collections.abc import Mapping

from pytest_serve_chaos.cluster.local.haproxy import serve_host
from pytest_serve_chaos.cluster.local.layout import Layout
from pytest_serve_chaos.cluster.local.link import SupervisorLink
from pytest_serve_chaos.cluster.local.plan import Plan
from pytest_serve_chaos.cluster.rest import Dashboard
from pytest_serve_chaos.model import Json


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
        address: dict[str, Json] = {"host": self._host, "port": self._port}
        self._dashboard.put_serve({**config, "http_options": address})
        with self._lock:
            self._config = dict(config)
        self._link.command("config", config=dict(config))
