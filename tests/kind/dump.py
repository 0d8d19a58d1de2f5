"""All objects of a cluster, made comparable: the same dump before and after says that nothing was changed for good.

Left out is what Kubernetes and KubeRay change by themselves while pods are replaced: names, ids and places of pods, all
that is status, and objects that only tell what happens (events, leases, endpoints).
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import TypeAlias

from pytest_serve_chaos.cluster.kubernetes.client.records import listed, mapped, text
from pytest_serve_chaos.model import Json

Dump: TypeAlias = "dict[str, list[str]]"
"""``Kind namespace/name`` -> the object as JSON; the pods of one owner have one name, and are in order."""

TELLING = (
    "Event",
    "Lease",
    "Endpoints",
    "EndpointSlice",
    "ComponentStatus",
    "PodMetrics",
    "NodeMetrics",
    "CertificateSigningRequest",  # of kubelets; Kubernetes deletes old ones by itself
)
_BOOKKEEPING = ("resourceVersion", "managedFields", "generation", "selfLink")
_OF_ONE_POD = ("name", "generateName", "uid", "creationTimestamp")
_TOKEN_VOLUME = re.compile(r"\bkube-api-access-\w+")
_MOST_LINES = 20


def take(kubectl: Callable[..., str]) -> Dump:
    """A dump of all that can be listed.

    Args:
        kubectl: Runs kubectl with those arguments against the cluster, and returns what it printed.
    """
    kinds = kubectl("api-resources", "--verbs=list", "-o", "name").split()
    return normalised(listed(json.loads(kubectl("get", ",".join(kinds), "-A", "-o", "json"))["items"]))


def normalised(items: Iterable[Mapping[str, Json]]) -> Dump:
    """The dump of some objects."""
    found: Dump = defaultdict(list)
    for item in items:
        if text(item, "kind") not in TELLING:
            name, rest = _object(item)
            found[name].append(json.dumps(rest, indent=1, sort_keys=True))
    return {name: sorted(same) for name, same in sorted(found.items())}


def differences(before: Dump, after: Dump) -> list[str]:
    """What is otherwise now, in words; empty if nothing is."""
    gone = [f"gone: {name}" for name in before.keys() - after.keys()]
    new = [f"new: {name}" for name in after.keys() - before.keys()]
    changed = [
        f"changed: {name}: {_changes(before[name], after[name])}"
        for name in before.keys() & after.keys()
        if before[name] != after[name]
    ]
    return sorted([*gone, *new, *changed])


def _changes(before: list[str], after: list[str]) -> str:
    if len(before) != len(after):
        return f"{len(after)} instead of {len(before)}"
    lines = difflib.unified_diff("\n".join(before).splitlines(), "\n".join(after).splitlines(), n=0, lineterm="")
    return "; ".join(line for line in list(lines)[:_MOST_LINES] if not line.startswith(("---", "+++", "@@")))


def _object(item: Mapping[str, Json]) -> tuple[str, dict[str, Json]]:
    metadata = {key: value for key, value in mapped(item.get("metadata")).items() if key not in _BOOKKEEPING}
    rest = {**item, "metadata": metadata}
    rest.pop("status", None)
    kind, name = text(item, "kind"), text(metadata, "name")
    if kind == "Pod" and (owner := _replacer(metadata)):
        name = f"of {owner}"
        rest = _pod(rest, metadata)
    if kind == "Node":
        rest["spec"] = _node_spec(mapped(item.get("spec")))
    if kind == "Secret":
        rest["data"] = hashlib.sha256(json.dumps(item.get("data"), sort_keys=True).encode()).hexdigest()
    group = text(item, "apiVersion").rpartition("/")[0]
    place = f"{text(metadata, 'namespace')}/" if text(metadata, "namespace") else ""
    return f"{kind}{'.' if group else ''}{group} {place}{name}", rest


def _replacer(metadata: Mapping[str, Json]) -> str:
    """Who makes another pod when this one goes; "" where nobody does, or one that cannot be told from it."""
    owners = [o for o in listed(metadata.get("ownerReferences")) if o.get("controller") and o.get("kind") != "Node"]
    return f"{text(owners[0], 'kind')} {text(owners[0], 'name')}" if owners else ""


def _pod(item: Mapping[str, Json], metadata: Mapping[str, Json]) -> dict[str, Json]:
    kept = {key: value for key, value in metadata.items() if key not in _OF_ONE_POD}
    labels = mapped(metadata.get("labels"))
    if labels.get("ray.io/node-type") == "head":
        # KubeRay sets it by what the proxy of the head says of itself at that moment.
        kept["labels"] = {key: value for key, value in labels.items() if key != "ray.io/serve"}
    spec = {key: value for key, value in mapped(item.get("spec")).items() if key != "nodeName"}
    return {**item, "metadata": kept, "spec": _without_chance(spec)}


def _without_chance(value: Json) -> Json:
    """Without what differs between two pods of one template: names of token volumes, and the order of Ray's options."""
    if isinstance(value, dict):
        return {key: _without_chance(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_without_chance(one) for one in value]
    if isinstance(value, str):
        plain = _TOKEN_VOLUME.sub("kube-api-access", value)
        # KubeRay writes `ray start` from a map, whose order is chance in Go.
        return " ".join(sorted(plain.split())) if "ray start " in plain else plain
    return value


def _node_spec(spec: Mapping[str, Json]) -> dict[str, Json]:
    taints: list[Json] = [
        {key: value for key, value in taint.items() if key != "timeAdded"}
        for taint in sorted(listed(spec.get("taints")), key=lambda taint: (text(taint, "key"), text(taint, "effect")))
    ]
    return {**spec, "taints": taints}
