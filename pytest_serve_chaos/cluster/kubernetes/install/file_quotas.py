"""What the ResourceQuotas and LimitRanges of a file refuse of its own pods and of what the plugin adds to them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from types import MappingProxyType

from pytest_serve_chaos.analysis.words import listing
from pytest_serve_chaos.cluster.kubernetes import names
from pytest_serve_chaos.cluster.kubernetes.client.limit_ranges import LimitRange, limit_range, refusals, with_defaults
from pytest_serve_chaos.cluster.kubernetes.client.pod_resources import Amounts, containers, counted
from pytest_serve_chaos.cluster.kubernetes.client.quantities import shown
from pytest_serve_chaos.cluster.kubernetes.client.quotas import Quota, quota
from pytest_serve_chaos.cluster.kubernetes.client.records import inner, listed, mapped, text
from pytest_serve_chaos.cluster.kubernetes.install.file_needs import workers_of
from pytest_serve_chaos.cluster.kubernetes.install.file_objects import PATCH, FileObject, PodPlace, pods
from pytest_serve_chaos.cluster.problems import Problem
from pytest_serve_chaos.cluster.yaml_lines import Path
from pytest_serve_chaos.model import Json

FOR_A_NAMESPACE = frozenset({"LimitRange", "NetworkPolicy", "ResourceQuota"})
"""The kinds that say something about everything in their namespace."""


def _sized(cpu: str, memory: str) -> Json:
    amounts: Json = {"cpu": cpu, "memory": memory}
    return {"requests": amounts, "limits": amounts}


_WAITS: dict[str, Json] = {"name": "wait-gcs-ready", "resources": _sized("200m", "256Mi")}
"""What KubeRay (1.6) has a worker's pod begin with."""
_AUTOSCALER: dict[str, Json] = {"name": "autoscaler", "resources": _sized("500m", "512Mi")}
"""What it adds to the head's pod for Ray's autoscaler, unless `autoscalerOptions` say otherwise."""
_STAY = ("Deployment", "Pod", "ReplicaSet", "ReplicationController", "StatefulSet")
"""The kinds whose pods are there all the time."""
_COUNTED: Mapping[str, tuple[str, int, str]] = MappingProxyType({
    "services": ("Service", 4, "two of the plugin and two of KubeRay"),
    "services.nodeports": ("Service", 2, "of the plugin"),
    "configmaps": ("ConfigMap", 2, "the app's code, and the certificates that Kubernetes has in each namespace"),
    "secrets": ("Secret", 0, ""),
    "persistentvolumeclaims": ("PersistentVolumeClaim", 0, ""),
})  # fmt: skip
"""Of what a quota can count: the kind, how many there are in addition to those of the file, and which."""
_OF_KUBERAY = ("-serve-svc", "-head-svc")
"""How the names of the Services end that KubeRay makes, or takes as its own."""


@dataclass(frozen=True, slots=True)
class _Made:
    """A pod as the API server gets it.

    Attributes:
        place: Where it stands in the file.
        spec: Its spec, with KubeRay's containers and the defaults of LimitRanges.
        number: How many of it are there all the time.
    """

    place: PodPlace
    spec: Mapping[str, Json] = field(repr=False)
    number: int

    @property
    def words(self) -> str:
        """What it is called in a sum."""
        if self.place.role == "worker":
            return f"group {text(self.place.group, 'groupName')}"
        return "head" if self.place.role else f"{self.place.of.kind} {self.place.of.name}"


def is_elsewhere(item: Mapping[str, Json], ray_service: Mapping[str, Json]) -> bool:
    """Whether an object is for a namespace of the file in which nothing of it is on kind."""
    given = text(mapped(item.get("metadata")), "namespace")
    return bool(given) and given != _namespace(ray_service)


def quotas(objects: Sequence[FileObject]) -> Iterator[Problem]:
    """All that is refused of the file's pods, and of the objects that the plugin and KubeRay add."""
    ranges = _ranges(objects)
    made = [*_made(objects, ranges)]
    for pod in made:
        yield from _out_of_range(pod, ranges)
    for item in _here(objects, "ResourceQuota"):
        known = quota(item.manifest)
        yield from _unsaid(item, known, made)
        yield from _too_small(item, known, made)
        if not known.scopes:
            yield from _too_few(item, known, objects)


def notes(objects: Sequence[FileObject]) -> Iterator[str]:
    """What the pods get from them that the file does not say, and what there is no room for, a sentence each."""
    ranges = _ranges(objects)
    made = [*_made(objects, ranges)]
    for pod in made:
        for key, number, container in containers(pod.place.spec) if pod.place.role else ():
            after = mapped(listed(pod.spec.get(key))[number])
            given = {name: value for name, value in _limits(after).items() if name not in _limits(container)}
            if given:
                said = listing([f"{name} {value}" for name, value in given.items()])
                names_of = listing(sorted({one.name for one in ranges if set(one.limits) & set(given)}))
                yield (
                    f"LimitRange {names_of} limits container {text(container, 'name')} ({pod.words}) to {said}, which"
                    " the file itself does not"
                )
    for item in _here(objects, "ResourceQuota"):
        known = quota(item.manifest)
        once, ray = (
            _sum(known, made),
            _sum(known, [pod for pod in made if pod.place.role and pod.place.of.kind == "RayService"]),
        )
        twice = {name: n + ray.get(name, 0) for name, n in once.items() if ray.get(name)}
        lacking = {name: n for name, n in known.lacks(twice).items() if name not in known.lacks(once)}
        for name, wanted in lacking.items():
            yield (
                f"ResourceQuota {item.name} allows {name} {shown(known.hard[name])}, and with a second RayCluster there"
                f" would be {shown(wanted)}: an upgrade (`rayservice_upgrade`) does not get all of its pods"
            )


# -- what there is -----------------------------------------------------------------------------------------------------


def _here(objects: Sequence[FileObject], kind: str) -> list[FileObject]:
    """The file's objects of a kind that are for the namespace of its RayService."""
    ray_service = next((item.manifest for item in objects if item.kind == "RayService"), {})
    return [item for item in objects if item.kind == kind and not is_elsewhere(item.manifest, ray_service)]


def _namespace(ray_service: Mapping[str, Json]) -> str:
    return text(mapped(ray_service.get("metadata")), "namespace") or names.NAMESPACE


def _ranges(objects: Sequence[FileObject]) -> list[LimitRange]:
    return [part for item in _here(objects, "LimitRange") for part in limit_range(item.manifest)]


def _limits(container: Mapping[str, Json]) -> dict[str, Json]:
    return inner(container, "resources", "limits")


def _made(objects: Sequence[FileObject], ranges: Sequence[LimitRange]) -> Iterator[_Made]:
    for place in pods(objects):
        yield _Made(place, with_defaults(_with_kuberays_containers(place), ranges), _number(place))


def _number(place: PodPlace) -> int:
    """How many such pods there are all the time, at least."""
    if place.role == "worker":
        return 0 if place.group.get("suspend") is True else workers_of(place.group)
    if place.role or place.of.kind == "Pod":
        return 1
    wanted = inner(place.of.manifest, "spec").get("replicas", 1)
    return wanted if place.of.kind in _STAY and isinstance(wanted, int) else 0


def _with_kuberays_containers(place: PodPlace) -> dict[str, Json]:
    """The spec of a pod with the containers that KubeRay adds to it."""
    spec = dict(place.spec)
    if place.role == "worker":
        return {**spec, "initContainers": [*listed(spec.get("initContainers")), _WAITS]}
    if place.role != "head":
        return spec
    cluster = inner(place.of.manifest, *(str(key) for key in place.path[: place.path.index("headGroupSpec")]))
    if not cluster.get("enableInTreeAutoscaling"):
        return spec
    own = inner(cluster, "autoscalerOptions").get("resources")
    sidecar = {**_AUTOSCALER, "resources": own} if isinstance(own, dict) else _AUTOSCALER
    return {**spec, "containers": [*listed(spec.get("containers")), sidecar]}


# -- what is refused ---------------------------------------------------------------------------------------------------


def _out_of_range(pod: _Made, ranges: Sequence[LimitRange]) -> Iterator[Problem]:
    for one in refusals(pod.spec, ranges):
        path: Path = ()
        said = one.what
        if one.container is not None and _is_in_the_file(pod, one.container):
            path = (*one.container, "resources", one.part, one.resource)
        elif one.container is not None:
            said = f"{one.what} (container {one.name}, which KubeRay adds)"
        yield pod.place.problem(
            path,
            f"LimitRange {one.by} refuses the pod: {one.resource}: {said}",
            f"change {one.part} of {one.resource}, or the LimitRange; or leave that out {PATCH}:"
            f" {{kind: LimitRange, name: {one.by}, patch: null}}",
        )


def _is_in_the_file(pod: _Made, container: tuple[str, int]) -> bool:
    key, number = container
    return number < len(listed(pod.place.spec.get(key)))


def _unsaid(item: FileObject, known: Quota, made: Iterable[_Made]) -> Iterator[Problem]:
    for pod in made:
        if pod.spec.get("resources") or not known.counts(pod.spec):
            continue
        for key, number, container in containers(pod.spec):
            unsaid = known.unsaid(container)
            if unsaid:
                path: Path = (key, number) if _is_in_the_file(pod, (key, number)) else ()
                yield pod.place.problem(
                    path,
                    f"ResourceQuota {item.name} counts {listing(unsaid)}, so Kubernetes refuses the pod: container"
                    f" {text(container, 'name')} does not say it",
                    f"say it {PATCH}: {{resources: {_example(unsaid)}}}; or give a LimitRange with defaults; or"
                    f" {_left_out(item)}",
                )


def _example(unsaid: Iterable[str]) -> str:
    parts: dict[str, list[str]] = {}
    for name in unsaid:
        part, _, resource = name.rpartition(".")
        parts.setdefault(part or "requests", []).append(f"{resource}: ...")
    return "{" + ", ".join(f"{part}: {{{', '.join(some)}}}" for part, some in parts.items()) + "}"


def _allowing(name: str, amount: str) -> str:
    return f"{{spec: {{hard: {{{name}: {amount}}}}}}}"


def _left_out(item: FileObject) -> str:
    return f"leave the {item.kind} out: {{kind: {item.kind}, name: {item.name}, patch: null}}"


def _sum(known: Quota, made: Iterable[_Made]) -> Amounts:
    """What a quota counts of these pods together."""
    found: Amounts = {}
    for pod in made:
        for name, amount in counted(pod.spec).items() if known.counts(pod.spec) else ():
            found[name] = found.get(name, Fraction(0)) + pod.number * amount
    return found


def _too_small(item: FileObject, known: Quota, made: Sequence[_Made]) -> Iterator[Problem]:
    for name, wanted in known.lacks(_sum(known, made)).items():
        each = [
            f"{f'{pod.number} x ' if pod.number > 1 else ''}{pod.words} {shown(counted(pod.spec)[name])}"
            for pod in made
            if pod.number and known.counts(pod.spec) and counted(pod.spec).get(name)
        ]
        yield item.problem(
            ("spec", "hard", name),
            f"it allows {shown(known.hard[name])}, and the pods of the file need {shown(wanted)} ({', '.join(each)})",
            f"request less, or allow more {PATCH}: {_allowing(name, shown(wanted))}; or {_left_out(item)}",
        )


def _too_few(item: FileObject, known: Quota, objects: Sequence[FileObject]) -> Iterator[Problem]:
    """Where it allows fewer objects than the file, the plugin and KubeRay make."""
    for name, most in known.hard.items():
        counted_as = name.removeprefix("count/")
        if counted_as not in _COUNTED:
            continue
        kind, added, which = _COUNTED[counted_as]
        there = added + sum(_counts_as(one, counted_as) for one in objects if one.kind == kind)
        if there > most:
            also = f", {added} of them {which}" if added else ""
            yield item.problem(
                ("spec", "hard", name),
                f"it allows {shown(most)}, and there are {there} at least{also}",
                f"allow more {PATCH}: {_allowing(name, str(there))}; or {_left_out(item)}",
            )


def _counts_as(item: FileObject, name: str) -> bool:
    """Whether an object of the file is one more that a quota counts by that name."""
    if name == "services.nodeports" and text(inner(item.manifest, "spec"), "type") != "NodePort":
        return False
    return item.kind != "Service" or not item.name.endswith(_OF_KUBERAY)
