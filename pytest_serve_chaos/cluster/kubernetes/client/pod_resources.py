"""What a pod requests, and its limits, as Kubernetes sums them up for quotas."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Literal, TypeAlias

from pytest_serve_chaos.cluster.kubernetes.client.quantities import quantity
from pytest_serve_chaos.cluster.kubernetes.client.records import inner, listed, text
from pytest_serve_chaos.model import Json

Part: TypeAlias = Literal["requests", "limits"]
Amounts: TypeAlias = dict[str, Fraction]
"""Resource (``cpu``, ``limits.memory``) -> how much."""

ANY_POD = ("pods", "count/pods")
_WITH_LIMITS = ("cpu", "memory", "ephemeral-storage")
"""The resources whose limits a quota can count."""


def containers(spec: Mapping[str, Json]) -> Iterator[tuple[str, int, dict[str, Json]]]:
    """All containers of a pod: the list that each is in, its place there, and the container."""
    for key in ("initContainers", "containers"):
        for number, container in enumerate(listed(spec.get(key))):
            yield key, number, container


def of_container(container: Mapping[str, Json], part: Part) -> Amounts:
    """What a container requests, or its limits; where it has a limit alone, it requests as much."""
    given = {} if part == "limits" else inner(container, "resources", "limits")
    given = given | inner(container, "resources", part)
    return {str(name): quantity(value) or Fraction(0) for name, value in given.items() if value is not None}


def of_pod(spec: Mapping[str, Json], part: Part) -> Amounts:
    """What all containers request together, or the sum of their limits.

    Init containers run one after the other, so the largest counts; those that are always restarted run alongside.
    """
    total: defaultdict[str, Fraction] = defaultdict(Fraction)
    sidecars: defaultdict[str, Fraction] = defaultdict(Fraction)
    first: defaultdict[str, Fraction] = defaultdict(Fraction)
    for key, _, container in containers(spec):
        is_sidecar = text(container, "restartPolicy") == "Always"
        for name, amount in of_container(container, part).items():
            if key == "containers" or is_sidecar:
                total[name] += amount
            if key == "initContainers":
                sidecars[name] += amount if is_sidecar else 0
                first[name] = max(first[name], sidecars[name] + (0 if is_sidecar else amount))
    whole = {name: max(total[name], first[name]) for name in {*total, *first}}
    return whole | of_container(spec, part)  # what the pod says itself is instead of the sum


def counted(spec: Mapping[str, Json]) -> Amounts:
    """What quotas count of a pod, by the names that they have for it."""
    found = {name: Fraction(1) for name in ANY_POD}
    for name, amount in of_pod(spec, "requests").items():
        found[f"requests.{name}"] = amount
        if name in _WITH_LIMITS or name.startswith("hugepages-"):
            found[name] = amount
    found |= {f"limits.{name}": n for name, n in of_pod(spec, "limits").items() if name in _WITH_LIMITS}
    return found
