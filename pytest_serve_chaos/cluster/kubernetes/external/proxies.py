"""One proxy of an external RayService and no other: its address, and which replicas it knows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import urlsplit

from pytest_serve_chaos import clock
from pytest_serve_chaos.clock import NotYet
from pytest_serve_chaos.cluster.asking import way_to
from pytest_serve_chaos.cluster.capabilities import Endpoint
from pytest_serve_chaos.cluster.kubernetes.client.access import TRAFFIC
from pytest_serve_chaos.cluster.kubernetes.rayservice.cluster import RunningConfig
from pytest_serve_chaos.cluster.kubernetes.rayservice.probe import Probe, ask, new_request_id
from pytest_serve_chaos.cluster.kubernetes.rayservice.view import RayServiceView
from pytest_serve_chaos.cluster.serve_config import serve_port
from pytest_serve_chaos.errors import WaitTimeout
from pytest_serve_chaos.model import Component
from pytest_serve_chaos.traffic.request import Message

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
        """The way to that proxy's pod through the API server, whose guard is asked here, and for each request.

        Raises:
            ObservationError: The proxy is gone.
            SafetyError: The guard does not let requests pass to it.
        """
        way = self._api.access()
        url = self._api.proxy_url("pods", self._pods.with_proxy(proxy).name, serve_port(self._config.now))

        def permit(method: str, path: str) -> None:
            del method
            way.permit(TRAFFIC, path)

        permit("", urlsplit(url).path)  # it may look whose pod that is, for which there is no time while requests leave
        return Endpoint(url, way.headers(), way.ssl_context, permit)

    def who_answers(self, proxy: Component, messages: Sequence[Message] = ()) -> frozenset[str]:
        """Sends requests to one proxy alone, and reads who answered from the answers, or else from access logs.

        Args:
            proxy: The proxy.
            messages: What it is asked. None: what the settings say.

        Returns:
            The replicas' ids; none where neither tells.
        """
        endpoint, request_id, begun = self.proxy_endpoint(proxy), new_request_id(), clock.now()
        asked = messages or self._asked
        named = {ask(endpoint, self._probe, m, request_id) for m in asked for _ in range(_REQUESTS)} - {""}
        if named:
            return frozenset(name.rpartition("#")[2] for name in named)

        def logged() -> frozenset[str] | NotYet:
            return self._who_logged(request_id, begun) or NotYet("no replica has logged the request")

        try:
            return clock.wait_until("an access log", logged, timeout=_LOGGED_WITHIN, interval=1.0)
        except WaitTimeout:
            return frozenset()

    @property
    def _asked(self) -> Sequence[Message]:
        way = way_to(self._probe.asking, self._config.now, home=self._url, url=self._url)
        return way.at_proxy.one_of_each_app

    def _who_logged(self, request_id: str, since: float) -> frozenset[str]:
        files = ["serve/replica_*"]
        lines = self._logs.read(files, since=since - 1.0, lines=1000, expression=re.escape(request_id))
        return frozenset(found[1] for line in lines if (found := re.search(r"replica_\S*_(\w+)\.log: ", line)))
