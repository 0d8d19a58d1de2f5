"""A Serve cluster that is a RayService on Kubernetes, with its Serve config and its proxies: its nodes are pods."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

from pytest_serve_chaos.cluster.base import NodeInfo
from pytest_serve_chaos.cluster.capabilities import Capabilities, Capability, Endpoint, Offer
from pytest_serve_chaos.cluster.kubernetes import names
from pytest_serve_chaos.cluster.kubernetes.client.api import KubeApi
from pytest_serve_chaos.cluster.kubernetes.rayservice.pods import RayPods
from pytest_serve_chaos.cluster.kubernetes.rayservice.view import RayServiceView
from pytest_serve_chaos.cluster.rest import Dashboard
from pytest_serve_chaos.cluster.serve_config import serve_config_text, serve_port
from pytest_serve_chaos.model import ClusterDescription, Component, Identity, Json

T = TypeVar("T")

_RAY_CLUSTER = "ray cluster"
"""The detail of a description that is the name of the RayCluster."""


class RunningConfig:
    """A Serve config that runs.

    Args:
        config: The config.
        apply: What makes another one run.
    """

    def __init__(self, config: Mapping[str, Json], apply: Callable[[Mapping[str, Json]], None]) -> None:
        self._config = dict(config)
        self._apply = apply

    @property
    def now(self) -> dict[str, Json]:
        """The config that should run now."""
        return dict(self._config)

    def change(self, config: Mapping[str, Json]) -> None:
        """Makes another config run. Raises what its way of applying it raises; then it is not changed."""
        self._apply(config)
        self._config = dict(config)


_LONGEST_NOTE = 200_000
"""Characters; all annotations of an object together may have 256 KiB."""


def config_of_ray_service(api: KubeApi, ray_service: str, config: Mapping[str, Json]) -> RunningConfig:
    """That of a RayService of our own: its `serveConfigV2`, which KubeRay hands to Serve within some 2 s.

    While it is another one, an annotation has that of before, so that nobody else need know it to put it back.
    """
    first = serve_config_text(config)

    def apply(wanted: Mapping[str, Json]) -> None:
        said = serve_config_text(wanted)
        note = None if said == first or len(first) > _LONGEST_NOTE else first
        patch: dict[str, Json] = {"metadata": {"annotations": {names.UNDO: note}}, "spec": {"serveConfigV2": said}}
        api.patch_ray_service(ray_service, patch)

    return RunningConfig(config, apply)


@dataclass(frozen=True, slots=True)
class Ends:
    """What is called when a cluster is closed; whatever goes wrong in one keeps no other from it.

    Attributes:
        first: What is called in this order, before the watches end.
        last: What ends all that was made for it; None where nothing was.
    """

    first: tuple[Callable[[], None], ...] = ()
    last: Callable[[], None] | None = None


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
        url = self._api.proxy_url("pods", self._pods.with_proxy(proxy).name, serve_port(self._config.now))
        return Endpoint(url, ssl_context=self._api.access().ssl_context)


class RayServiceCluster:
    """A RayService and the pods under it; implements `cluster.base.Cluster`.

    Args:
        view: What its parts work with.
        config: The Serve config that it runs.
        description: What it is, for reports.
        offers: What it can do, and which part does it.
        ends: What is called when it is closed.
        url: Where traffic goes; None: to the address of the description.
    """

    def __init__(
        self,
        view: RayServiceView,
        config: RunningConfig,
        description: ClusterDescription,
        offers: Iterable[Offer],
        ends: Ends | None = None,
        *,
        url: str | None = None,
    ) -> None:
        self.spec = view.ref.spec
        self._view = view
        self._config = config
        self._description = description
        self._url = description.url if url is None else url
        self._proxies = PodProxies(view.api, view.pods, config)
        self._capabilities = Capabilities(*offers)
        self._ends = ends or Ends()

    @property
    def description(self) -> ClusterDescription:
        """What is under test, for every report; with the RayCluster that serves now."""
        details, serving = self._description.details, self._view.pods.ray_cluster
        if details.get(_RAY_CLUSTER, serving) == serving:
            return self._description
        return replace(self._description, details={**details, _RAY_CLUSTER: serving})

    @property
    def url(self) -> str:
        """Where traffic goes: the Service's address, with the app's route."""
        return self._url

    @property
    def dashboard(self) -> Dashboard:
        """Ray's state API and Serve's REST on the head."""
        return self._view.dashboard

    @property
    def serve_config(self) -> dict[str, Json]:
        """The Serve config that the RayService has."""
        return self._config.now

    def apply_serve_config(self, config: Mapping[str, Json]) -> None:
        """Makes that config the one that the cluster should run.

        Raises:
            CommandFailed: It was refused.
            Unsupported: The config is somebody else's.
        """
        self._config.change(config)

    def nodes(self) -> tuple[NodeInfo, ...]:
        """The nodes that should be there, head first, as their pods show them."""
        return self._view.topology.nodes()

    def components(self) -> tuple[Component, ...]:
        """Head, workers, GCS, Redis and, by their processes, Serve's actors.

        Raises:
            ObservationError: The API server gave no usable answer.
        """
        return self._view.topology.components()

    def proxy_of(self, client: tuple[str, int]) -> Identity | None:
        """None: on the way through a Service, nobody outside of the node knows where a connection ends."""
        del client
        return None

    def ask_proxy(self, proxy: Component, path: str, *, timeout: float) -> tuple[int, str]:
        """Sends GET `path` to that proxy's pod, through the API server; returns status and body.

        Raises:
            ObservationError: Its pod is gone, or it gave no answer in `timeout` seconds.
        """
        return self._proxies.ask(proxy, path, timeout=timeout)

    def capability(self, wanted: Capability[T]) -> T | None:
        """The part that has a capability; None if none has."""
        return self._capabilities.get(wanted)

    def log_excerpt(self, since: float, *, pattern: str | None = None, lines: int = 40) -> tuple[str, ...]:
        """The last lines of Ray's and Serve's logs; of pods that are gone, where logs were streamed."""
        return self._view.logs.excerpt(since, pattern=pattern, lines=lines)

    def close(self) -> None:
        """Ends everything that was made for this cluster. May be called twice."""
        last, self._ends = self._ends.last, replace(self._ends, last=None)
        with contextlib.ExitStack() as ends:  # last first, and all of it, whatever goes wrong
            ends.callback(self._view.api.close)
            ends.callback(self._view.dashboard.close)
            if last is not None:
                ends.callback(last)
            ends.callback(self.stop_watching)  # before the pods go, which would be taken for a loss
            for first in reversed(self._ends.first):
                ends.callback(first)

    def stop_watching(self) -> None:
        """Ends the watches of pods, processes and logs; what is made for the cluster stays."""
        self._view.close()
