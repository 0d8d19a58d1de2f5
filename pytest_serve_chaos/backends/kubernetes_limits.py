"""Whether the limits of an external RayService's namespace let lost pods be replaced, for `serve-chaos doctor`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pytest_serve_chaos.backends.base import Finding
from pytest_serve_chaos.cluster.kubernetes import names
from pytest_serve_chaos.cluster.kubernetes.client.records import name_of
from pytest_serve_chaos.cluster.kubernetes.external import rights
from pytest_serve_chaos.cluster.kubernetes.rayservice.existing import read_ray_service
from pytest_serve_chaos.cluster.kubernetes.rayservice.room import limits_of, room
from pytest_serve_chaos.errors import ObservationError, ServeChaosError

if TYPE_CHECKING:
    from pytest_serve_chaos.cluster.kubernetes.client.api import KubeApi

_WHAT = "room for pods"


def limit_finding(api: KubeApi, name: str, rayservice: str) -> Finding:
    """What ResourceQuotas and LimitRanges refuse; where they cannot be listed, only that.

    Args:
        api: The Kubernetes API, in the RayService's namespace.
        name: The RayService.
        rayservice: The same with its namespace.
    """
    advice = f"serve-chaos rbac {rayservice} --tier look"
    try:
        may_not = rights.missing(api, rights.LIMITS)
        if may_not:
            said = f"could not be looked at: this user may not {', '.join(map(str, may_not))}"
            return Finding(_WHAT, said, False, advice, needed=False)
        return _finding(api, name)
    except ServeChaosError as error:
        return Finding(_WHAT, f"could not be looked at: {error.what}", False, "; ".join(error.fix), needed=False)


def _finding(api: KubeApi, name: str) -> Finding:
    limits = limits_of(api)
    if not limits:
        return Finding(_WHAT, "there are no ResourceQuotas and no LimitRanges", needed=False)
    found = read_ray_service(api.ray_service(name))
    items = api.raw_pods(f"{names.RAY_CLUSTER}={found.ray_cluster}") if found.ray_cluster else ()
    if not items:
        raise ObservationError(f"RayService {name} has no pods")
    left = room(limits, {name_of(item): item for item in items}, several=found.worker_range is None)
    upgrade = f"; for an upgrade by its owner: {left.second}" if left.second else ""
    if not left.refused:
        return Finding(_WHAT, f"each Ray pod can be replaced{upgrade}", needed=False)
    return Finding(
        _WHAT, "; ".join(_refused(left.refused.items())) + upgrade, False, "change what refuses them", needed=False
    )


def _refused(pods: Iterable[tuple[str, str]]) -> list[str]:
    return [f"{f'pod {pod}' if pod else 'each Ray pod'} cannot be replaced: {why}" for pod, why in pods]
