"""LimitRanges: the requests and limits that they give to containers, and the pods that they refuse."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from pytest_serve_chaos.cluster.kubernetes.client.pod_resources import Amounts, containers, of_container, of_pod
from pytest_serve_chaos.cluster.kubernetes.client.quantities import quantity, shown
from pytest_serve_chaos.cluster.kubernetes.client.records import inner, listed, mapped, name_of, text
from pytest_serve_chaos.model import Json

DEFAULTS_NOTE = "kubernetes.io/limit-ranger"
"""The annotation of a pod that has got requests or limits from a LimitRange."""


@dataclass(frozen=True, slots=True)
class LimitRange:
    """What a LimitRange says about containers, or about pods.

    Attributes:
        name: The LimitRange.
        of: ``Container`` or ``Pod``.
        number: The place of this part in its list of limits.
        least: The least that each may request, and have as a limit.
        most: The most, likewise; each has to have a limit then.
        ratio: How many times its request a limit may be.
        limits: The limits of containers that have none.
        requests: What containers request that do not say it.
    """

    name: str
    of: str
    number: int
    least: Mapping[str, Json] = field(default_factory=dict)
    most: Mapping[str, Json] = field(default_factory=dict)
    ratio: Mapping[str, Json] = field(default_factory=dict)
    limits: Mapping[str, Json] = field(default_factory=dict)
    requests: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why Kubernetes refuses a pod.

    Attributes:
        by: The LimitRange.
        container: The list that the container is in, and its place there; None: it is the pod as a whole.
        name: That of the container; "" for the pod.
        part: Where what is wrong stands, or would stand: ``limits`` or ``requests``.
        resource: ``cpu``.
        what: What is wrong.
    """

    by: str
    container: tuple[str, int] | None
    name: str
    part: str
    resource: str
    what: str


def limit_range(item: Mapping[str, Json]) -> list[LimitRange]:
    """The parts of a LimitRange, of a cluster or of a file, with the defaults that the API server fills in."""
    found = []
    for number, one in enumerate(listed(inner(item, "spec").get("limits"))):
        of, least, most = text(one, "type"), mapped(one.get("min")), mapped(one.get("max"))
        limits, requests = (
            ({}, {}) if of != "Container" else (mapped(one.get("default")), mapped(one.get("defaultRequest")))
        )
        if of == "Container":
            limits = most | limits
            requests = least | limits | requests
        if of in ("Container", "Pod"):
            ratio = mapped(one.get("maxLimitRequestRatio"))
            found.append(LimitRange(name_of(item), of, number, least, most, ratio, limits, requests))
    return found


def with_defaults(spec: Mapping[str, Json], ranges: Sequence[LimitRange]) -> dict[str, Json]:
    """The spec of a pod with what LimitRanges give to its containers; the first that says something counts."""
    changed: dict[str, list[Json]] = {}
    for key, _, container in containers(spec):
        limits, requests = (inner(container, "resources", part) for part in ("limits", "requests"))
        requests = limits | requests  # before any LimitRange is asked
        for one in ranges:
            limits, requests = {**one.limits, **limits}, {**one.requests, **requests}
        resources: Json = {**inner(container, "resources"), "limits": limits, "requests": requests}
        changed.setdefault(key, []).append({**container, "resources": resources})
    return {**spec, **changed}


def refusals(spec: Mapping[str, Json], ranges: Sequence[LimitRange]) -> Iterator[Refusal]:
    """Why Kubernetes would refuse a pod with that spec, which has got its defaults (`with_defaults`) already."""
    for key, number, container in containers(spec):
        limits, requests = of_container(container, "limits"), of_container(container, "requests")
        name = text(container, "name")
        for one in ranges:
            if one.of == "Container":
                for part, resource, what in _against(one, requests, limits):
                    yield Refusal(one.name, (key, number), name, part, resource, what)
            yield from _defaults_below(one, (key, number), name, requests, limits)
    for one in ranges:
        if one.of == "Pod":
            for part, resource, what in _against(one, of_pod(spec, "requests"), of_pod(spec, "limits")):
                yield Refusal(one.name, None, "", part, resource, what)


def _defaults_below(
    one: LimitRange, place: tuple[str, int], name: str, requests: Amounts, limits: Amounts
) -> Iterator[Refusal]:
    """Where a limit that a LimitRange gives is below what the container requests itself."""
    for resource, value in one.limits.items():
        given = quantity(value)
        wanted = requests.get(resource, Fraction(0))
        if given is not None and limits.get(resource) == given and wanted > given:
            what = f"it gives the limit {value} to a container that requests {shown(wanted)} and has no limit"
            yield Refusal(one.name, place, name, "limits", resource, what)


def _against(one: LimitRange, requests: Amounts, limits: Amounts) -> Iterator[tuple[str, str, str]]:
    """What of these amounts a LimitRange does not take: the part, the resource, and what is wrong."""
    each = one.of.lower()
    for resource, least in _bounds(one.least):
        wanted, most = requests.get(resource), limits.get(resource)
        if wanted is None:
            yield "requests", resource, f"each {each} must request {shown(least)} at least, and there is no request"
        elif wanted < least:
            yield "requests", resource, f"each {each} must request {shown(least)} at least, and not {shown(wanted)}"
        elif most is not None and most < least:
            yield "limits", resource, f"each {each} must have a limit of {shown(least)} at least, and not {shown(most)}"
    for resource, allowed in _bounds(one.most):
        wanted, most = requests.get(resource), limits.get(resource)
        if most is None:
            yield (
                "limits",
                resource,
                f"each {each} must have a limit of {shown(allowed)} at most, and there is no limit",
            )
        elif most > allowed:
            yield "limits", resource, f"each {each} may have a limit of {shown(allowed)} at most, and not {shown(most)}"
        elif wanted is not None and wanted > allowed:
            yield "requests", resource, f"each {each} may request {shown(allowed)} at most, and not {shown(wanted)}"
    for resource, times in _bounds(one.ratio):
        wanted, most = requests.get(resource), limits.get(resource)
        if not wanted or not most:
            yield "limits", resource, f"each {each} must have a request and a limit, as their ratio is limited"
        elif most > times * wanted:
            what = f"the limit of each {each} may be {float(times):g} times its request at most,"
            yield "limits", resource, f"{what} and not {shown(most)} for {shown(wanted)}"


def _bounds(given: Mapping[str, Json]) -> Iterable[tuple[str, Fraction]]:
    return [(str(name), found) for name, value in given.items() if (found := quantity(value)) is not None]
