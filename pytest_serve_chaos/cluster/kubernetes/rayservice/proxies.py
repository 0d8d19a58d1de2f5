"""One proxy of a RayService and no other, through the API server."""

from __future__ import annotations

from pytest_serve_chaos.cluster.capabilities import Endpoint
from pytest_serve_chaos.cluster.kubernetes.client.api import KubeApi
from pytest_serve_chaos.cluster.kubernetes.rayservice.pods import RayPods
from pytest_serve_chaos.cluster.kubernetes.rayservice.serve_config import RunningConfig
from pytest_serve_chaos.cluster.serve_config import serve_port
from pytest_serve_chaos.model import Component


class PodProxies:
    """The way to each proxy's pod. Has the capability `HasProxyEndpoints`.

    Args:
        api: The Kubernetes API.
        pods: The pods.
        config: The Serve config, which has the port.
    """

    def __init__(self, api: KubeApi, pods: RayPods, config: RunningConfig) -> None:
        self._api = api
        self._pods = pods
        self._config = config

    def ask(self, proxy: Component, path: str, *, timeout: float) -> tuple[int, str]:
        """Sends GET `path` to that proxy's pod; returns status and body.

        Raises:
            ObservationError: Its pod is gone, or it gave no answer in `timeout` seconds.
        """
        pod = self._pods.with_proxy(proxy)
        return self._api.proxy_get(pod.name, serve_port(self._config.now), path, timeout=timeout)

    def proxy_endpoint(self, proxy: Component) -> Endpoint:
        """The way to that proxy's pod."""
        url, context = self._api.proxy_url(self._pods.with_proxy(proxy).name, serve_port(self._config.now))
        return Endpoint(url, ssl_context=context)
