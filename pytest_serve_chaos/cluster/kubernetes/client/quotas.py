"""ResourceQuotas: which pods they count, what they have left, and what they refuse."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from pytest_serve_chaos.cluster.kubernetes.client.pod_resources import Amounts, containers, of_container
from pytest_serve_chaos.cluster.kubernetes.client.quantities import quantity
from pytest_serve_chaos.cluster.kubernetes.client.records import inner, listed, name_of, text
from pytest_serve_chaos.model import Json

_MUST_SAY = ("cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory")
"""What each container has to say if a quota counts it; a pod that does not is refused."""


@dataclass(frozen=True, slots=True)
class Quota:
    """A ResourceQuota.

    Attributes:
        name: Its name.
        hard: What it allows.
        used: How much of that is used; empty for one that is not in a cluster yet.
        scopes: Which pods it counts: name, operator and values of each condition; none: all.
    """

    name: str
    hard: Mapping[str, Fraction]
    used: Mapping[str, Fraction] = field(default_factory=dict)
    scopes: tuple[tuple[str, str, tuple[str, ...]], ...] = ()

    def counts(self, pod: Mapping[str, Json]) -> bool:
        """Whether it surely counts a pod with that spec."""
        return all(_is_in(pod, *scope) for scope in self.scopes)

    def unsaid(self, container: Mapping[str, Json]) -> list[str]:
        """The resources that a container must name, and does not."""
        said = {f"limits.{name}" for name in of_container(container, "limits")}
        said |= {f"{start}{name}" for name in of_container(container, "requests") for start in ("", "requests.")}
        return [name for name in self.hard if name in _MUST_SAY and name not in said]

    def unsaid_by(self, pod: Mapping[str, Json]) -> dict[str, list[str]]:
        """Container -> the resources that it must name and does not, of a pod that this quota counts."""
        if pod.get("resources") or not self.counts(pod):
            return {}
        found = {text(container, "name"): self.unsaid(container) for _, _, container in containers(pod)}
        return {name: resources for name, resources in found.items() if resources}

    def lacks(self, wanted: Amounts) -> Amounts:
        """What there would be too little of, were that used in addition: the resource, and how much is wanted of it."""
        used = self.used
        return {n: wanted[n] for n, most in self.hard.items() if wanted.get(n) and wanted[n] + used.get(n, 0) > most}


def quota(item: Mapping[str, Json]) -> Quota:
    """A ResourceQuota, of a cluster or of a file."""
    spec, status = inner(item, "spec"), inner(item, "status")
    scopes = spec.get("scopes")
    plain = [(str(name), "Exists", ()) for name in (scopes if isinstance(scopes, list) else [])]
    return Quota(
        name_of(item),
        _amounts(inner(status, "hard") or inner(spec, "hard")),
        _amounts(inner(status, "used")),
        (*plain, *_selected(listed(inner(spec, "scopeSelector").get("matchExpressions")))),
    )


def _amounts(given: Mapping[str, Json]) -> Amounts:
    return {str(name): found for name, value in given.items() if (found := quantity(value)) is not None}


def _selected(expressions: Iterable[Mapping[str, Json]]) -> list[tuple[str, str, tuple[str, ...]]]:
    found = []
    for one in expressions:
        values = one.get("values")
        words = tuple(str(value) for value in (values if isinstance(values, list) else []))
        found.append((text(one, "scopeName"), text(one, "operator"), words))
    return found


def _is_in(pod: Mapping[str, Json], scope: str, operator: str, values: tuple[str, ...]) -> bool:
    """Whether a pod surely is in a scope."""
    if scope == "PriorityClass":
        name = text(pod, "priorityClassName")
        known = {"In": name in values, "NotIn": bool(name) and name not in values, "Exists": bool(name)}
        return known.get(operator, False)  # one without a class may get the default of the cluster
    ends = pod.get("activeDeadlineSeconds") is not None
    known = {
        "BestEffort": _is_best_effort(pod),
        "NotBestEffort": not _is_best_effort(pod),
        "Terminating": ends,
        "NotTerminating": not ends,
    }
    return known.get(scope, False)


def _is_best_effort(pod: Mapping[str, Json]) -> bool:
    """Whether no container says anything about CPU and memory."""
    amounts = [of_container(holder, "requests") for holder in (pod, *(one for _, _, one in containers(pod)))]
    return not any(found.get(name) for found in amounts for name in ("cpu", "memory"))
