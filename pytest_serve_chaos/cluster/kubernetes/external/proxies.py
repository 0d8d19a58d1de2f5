"""One proxy of an external RayService and no other: its address, and which replicas it knows."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from pytest_serve_chaos import clock
from pytest_serve_chaos.clock import NotYet
from pytest_serve_chaos.cluster.capabilities import Endpoint
from pytest_serve_chaos.cluster.kubernetes.rayservice.cluster import RunningConfig
from pytest_serve_chaos.cluster.kubernetes.rayservice.probe import Probe, ask, new_request_id
from pytest_serve_chaos.cluster.kubernetes.rayservice.view import RayServiceView
from pytest_serve_chaos.cluster.serve_config import applications, first_route, serve_port
from pytest_serve_chaos.errors import WaitTimeout
from pytest_serve_chaos.model import Component, Json

_REQUESTS = 24
"""To one proxy, to learn which replicas it knows: of three replicas one is missed once in 17 000 times."""
_LOGGED_WITHIN = 3.0


class ExternalProxies:
    """The way to each proxy's pod, as the user's traffic goes there. Has the capability `HasProxyEndpoints`.

    Args:
        view: The RayService.
        config: Its Serve config.
        url: Where the user's traffic goes.
        probe: The request that traffic sends to it.
    """

    def __init__(self, view: RayServiceView, config: RunningConfig, url: str, probe: Probe) -> None:
        self._api = view.api
        self._pods = view.pods
        self._logs = view.logs
        self._config = config
        self._url = url
        self._probe = probe

    def proxy_endpoint(self, proxy: Component) -> Endpoint:
        """The way to that proxy's pod through the API server, with the path to which the user's traffic goes."""
        way, config = self._api.access(), self._config.now
        pod = self._pods.with_proxy(proxy).name
        url = f"{way.server}/api/v1/namespaces/{self._api.namespace}/pods/{pod}:{serve_port(config)}/proxy"
        return Endpoint(url + path_in_serve(self._url, config), way.headers(), way.ssl_context)

    def who_answers(self, proxy: Component) -> frozenset[str]:
        """Sends requests to one proxy alone, and reads who answered from the answers, or else from access logs.

        Returns:
            The replicas' ids; none where neither tells.
        """
        endpoint, request_id, begun = self.proxy_endpoint(proxy), new_request_id(), clock.now()
        named = {ask(endpoint, self._probe, request_id) for _ in range(_REQUESTS)} - {""}
        if named:
            return frozenset(name.rpartition("#")[2] for name in named)

        def logged() -> frozenset[str] | NotYet:
            return self._who_logged(request_id, begun) or NotYet("no replica has logged the request")

        try:
            return clock.wait_until("an access log", logged, timeout=_LOGGED_WITHIN, interval=1.0)
        except WaitTimeout:
            return frozenset()

    def _who_logged(self, request_id: str, since: float) -> frozenset[str]:
        files = ["serve/replica_*"]
        lines = self._logs.read(files, since=since - 1.0, lines=1000, expression=re.escape(request_id))
        return frozenset(found[1] for line in lines if (found := re.search(r"replica_\S*_(\w+)\.log: ", line)))


def path_in_serve(url: str, config: Mapping[str, Json]) -> str:
    """The path at a proxy that the user's URL stands for: its own, or the first app's route where a way in changed it.

    Args:
        url: Where the user's traffic goes.
        config: The Serve config.
    """
    parts = urlsplit(url)
    path = parts.path or "/"
    routes = [str(app.get("route_prefix") or "/") for app in applications(config)]
    known = any(path == route or path.startswith(route.rstrip("/") + "/") for route in routes)
    found = path if known else first_route(config)
    return found + (f"?{parts.query}" if parts.query else "")
