"""What the ResourceQuotas and LimitRanges of a namespace refuse of the pods that a recovery needs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from pytest_serve_chaos.analysis.configuration import Room
from pytest_serve_chaos.analysis.words import listing
from pytest_serve_chaos.cluster.kubernetes.client.api import KubeApi
from pytest_serve_chaos.cluster.kubernetes.client.limit_ranges import (
    DEFAULTS_NOTE,
    LimitRange,
    limit_range,
    refusals,
    with_defaults,
)
from pytest_serve_chaos.cluster.kubernetes.client.pod_resources import Amounts, counted
from pytest_serve_chaos.cluster.kubernetes.client.quantities import shown
from pytest_serve_chaos.cluster.kubernetes.client.quotas import Quota, quota
from pytest_serve_chaos.cluster.kubernetes.client.records import inner, mapped
from pytest_serve_chaos.model import Json

_CLUSTERS = "count/rayclusters.ray.io"


@dataclass(frozen=True, slots=True)
class Limits:
    """What limits the pods of a namespace.

    Attributes:
        quotas: Its ResourceQuotas.
        ranges: The parts of its LimitRanges.
    """

    quotas: Sequence[Quota] = ()
    ranges: Sequence[LimitRange] = ()

    def __bool__(self) -> bool:
        return bool(self.quotas or self.ranges)


def limits_of(api: KubeApi) -> Limits:
    """Those of the API's namespace.

    Raises:
        ObservationError: The API server gave no usable answer, or this user may not list them.
    """
    quotas = [quota(item) for item in api.objects.limits("ResourceQuota")]
    return Limits(quotas, [part for item in api.objects.limits("LimitRange") for part in limit_range(item)])


def room(limits: Limits, pods: Mapping[str, Mapping[str, Json]], *, several: bool) -> Room:
    """Which pods of Ray could not be replaced, and whether a second RayCluster could be made.

    KubeRay makes a pod only when the one that it replaces is gone, which frees its part of a quota before.

    Args:
        limits: Those of their namespace.
        pods: Ray node (``head``) -> its pod, as plain data.
        several: Whether to look if there is room for a second RayCluster like the first.
    """
    refused = {name: why for name, pod in pods.items() if (why := _why_refused(limits, pod))}
    if len(pods) > 1 and refused.keys() == pods.keys() and len(set(refused.values())) == 1:
        refused = {"": next(iter(refused.values()))}
    return Room(refused, _no_second(limits.quotas, list(pods.values())) if several else "")


def _why_refused(limits: Limits, pod: Mapping[str, Json]) -> str:
    """Why Kubernetes refuses a pod like this one once it is gone; "" if nothing shows that it does."""
    spec = with_defaults(inner(pod, "spec"), limits.ranges)
    for one in limits.quotas:
        unsaid = one.unsaid_by(spec)
        if unsaid:
            container, resources = next(iter(unsaid.items()))
            return f"ResourceQuota {one.name} counts {listing(resources)}, which container {container} does not say"
        over = _over(one, counted(spec)) if one.counts(spec) else ""
        if over:
            return f"ResourceQuota {one.name} allows {over}"
    if DEFAULTS_NOTE in mapped(inner(pod, "metadata").get("annotations")):
        return ""  # what the LimitRange of then gave it, its successor need not get
    found = next(refusals(spec, limits.ranges), None)
    return "" if found is None else f"LimitRange {found.by}: {found.resource}: {found.what}"


def _over(one: Quota, wanted: Amounts) -> str:
    """What is used of a quota beyond what it allows, of that which a pod wants: its end frees too little."""
    for name, most in one.hard.items():
        used = one.used.get(name, Fraction(0))
        if wanted.get(name) and used > most:
            return f"{name} {shown(most)}, and {shown(used)} is used already"
    return ""


def _no_second(quotas: Iterable[Quota], pods: Sequence[Mapping[str, Json]]) -> str:
    for one in quotas:
        wanted: Amounts = {_CLUSTERS: Fraction(1)}
        for pod in pods:
            spec = inner(pod, "spec")
            for name, amount in counted(spec).items() if one.counts(spec) else ():
                wanted[name] = wanted.get(name, Fraction(0)) + amount
        for name, more in one.lacks(wanted).items():
            left = max(Fraction(0), one.hard[name] - one.used.get(name, Fraction(0)))
            return (
                f"ResourceQuota {one.name} has {name} {shown(left)} left, and a second RayCluster needs {shown(more)}"
            )
    return ""
