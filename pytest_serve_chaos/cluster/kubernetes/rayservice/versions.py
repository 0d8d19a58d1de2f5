"""What a RayService runs on, for reports: Kubernetes' version, and the images of KubeRay's operator and of Redis."""

from __future__ import annotations

from pytest_serve_chaos.cluster.kubernetes.client.api import KubeApi
from pytest_serve_chaos.cluster.kubernetes.client.records import inner, listed, text
from pytest_serve_chaos.cluster.kubernetes.logs.operator import SELECTOR
from pytest_serve_chaos.errors import ObservationError
from pytest_serve_chaos.model import Json


def versions(api: KubeApi, *, operator_namespace: str | None = None, redis: str | None = None) -> dict[str, Json]:
    """Those that can be seen, by the names that the details of a description have for them.

    Args:
        api: The Kubernetes API, in the RayService's namespace.
        operator_namespace: Where KubeRay's operator is; None: perhaps in that namespace.
        redis: Labels of the Redis pod; None where there is none that is known.
    """
    found: dict[str, Json] = {
        "kubernetes version": _kubernetes(api),
        "operator image": _image(api, SELECTOR, operator_namespace),
        "redis image": "" if redis is None else _image(api, redis, None),
    }
    return {name: what for name, what in found.items() if what}


def _kubernetes(api: KubeApi) -> str:
    try:
        return api.objects.version()
    except ObservationError:
        return ""


def _image(api: KubeApi, selector: str, namespace: str | None) -> str:
    """The image of the first container of such a pod; "" where none can be seen."""
    try:
        pods = api.raw_pods(selector, namespace=namespace)
    except ObservationError:
        return ""
    containers = [container for pod in pods for container in listed(inner(pod, "spec").get("containers"))[:1]]
    return text(containers[-1], "image") if containers else ""
