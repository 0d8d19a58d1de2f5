"""A RayService cluster with an API and a dashboard that a test gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from pytest_serve_chaos.cluster.base import ClusterSpec
from pytest_serve_chaos.cluster.capabilities import Offer
from pytest_serve_chaos.cluster.kubernetes.client.api import KubeApi
from pytest_serve_chaos.cluster.kubernetes.rayservice.cluster import Ends, RayServiceCluster
from pytest_serve_chaos.cluster.kubernetes.rayservice.parts import pod_parts
from pytest_serve_chaos.cluster.kubernetes.rayservice.pods import RayServiceRef
from pytest_serve_chaos.cluster.kubernetes.rayservice.serve_config import config_of_ray_service
from pytest_serve_chaos.cluster.kubernetes.rayservice.view import RayServiceView, Sight
from pytest_serve_chaos.cluster.rest import Dashboard
from pytest_serve_chaos.model import ClusterDescription

DESCRIPTION = ClusterDescription("kind", "2.60.0", 2, "redis", "app", "fast", 1, "http://127.0.0.1:1/")


def view_of(
    api: object,
    dashboard: object,
    *,
    spec: ClusterSpec | None = None,
    ray_cluster: str = "serve-chaos-abcde",
    redis_selector: str | None = "redis",
    sight: Sight | None = None,
    worker_range: tuple[int, int] | None = None,
) -> RayServiceView:
    ref = RayServiceRef(spec or ClusterSpec(), "serve-chaos", ray_cluster, redis_selector, worker_range)
    return RayServiceView(cast("KubeApi", api), cast("Dashboard", dashboard), ref, sight or Sight())


def cluster_on(
    view: RayServiceView,
    *offers: Offer,
    description: ClusterDescription = DESCRIPTION,
    on_close: Callable[[], None] | None = None,
) -> RayServiceCluster:
    config = config_of_ray_service(view.api, view.ref.ray_service, {})
    parts = pod_parts(view, config, description.ray_version)
    return RayServiceCluster(view, config, description, (*parts, *offers), Ends(last=on_close))
