"""The dashboard of a head whose Service is the only way to it: through the API server, with what is shown there."""

from __future__ import annotations

from collections.abc import Mapping

from pytest_serve_chaos.cluster.kubernetes.client.api import KubeApi
from pytest_serve_chaos.cluster.kubernetes.rayservice.ray_token import RayToken
from pytest_serve_chaos.cluster.rest import Dashboard

_PORT = 8265
_PATIENCE = 4.0
"""Seconds for one answer: there is one more on the way than usual."""


def dashboard_behind(api: KubeApi, service: str, token: RayToken | None = None) -> Dashboard:
    """The dashboard behind that Service of the API's namespace, under the guard of the API.

    Args:
        api: The Kubernetes API.
        service: The Service.
        token: Ray's own, where it wants one.
    """
    way = api.access()

    def headers() -> Mapping[str, str]:
        return {**way.headers(), **({} if token is None else token.headers())}

    url = api.proxy_url("services", service, _PORT)
    return Dashboard(url, headers, timeout=_PATIENCE, verify=way.ssl_context, permit=way.permit)
