"""The dashboard of a head whose Service is the only way to it: through the API server, with what is shown there."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from pytest_serve_chaos.cluster.kubernetes.client.access import Permit
from pytest_serve_chaos.cluster.kubernetes.client.api import KubeApi
from pytest_serve_chaos.cluster.kubernetes.rayservice.ray_token import RayToken
from pytest_serve_chaos.cluster.rest import Dashboard

_PORT = 8265
_PATIENCE = 4.0
"""Seconds for one answer: there is one more on the way than usual."""


def dashboard_behind(
    api: KubeApi, service: str, permit: Permit | None = None, token: RayToken | None = None
) -> Dashboard:
    """The dashboard behind that Service of the API's namespace.

    Args:
        api: The Kubernetes API.
        service: The Service.
        permit: Asked before each request, as by the API's own connection, which these requests do not take.
        token: Ray's own, where it wants one.
    """
    way = api.access()
    base = urlsplit(way.server).path.rstrip("/")

    def ask(method: str, path: str) -> None:
        if permit is not None:
            permit(method, path.removeprefix(base))

    def headers() -> Mapping[str, str]:
        return {**way.headers(), **({} if token is None else token.headers())}

    url = f"{way.server}/api/v1/namespaces/{api.namespace}/services/{service}:{_PORT}/proxy"
    return Dashboard(url, headers, timeout=_PATIENCE, verify=way.ssl_context, permit=ask)
