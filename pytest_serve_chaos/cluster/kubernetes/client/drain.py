"""What a drain of a Kubernetes node is made of, as `kubectl drain` does it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pytest_serve_chaos import clock
from pytest_serve_chaos.clock import NotYet
from pytest_serve_chaos.cluster.kubernetes import names
from pytest_serve_chaos.cluster.kubernetes.client.api import KubeApi
from pytest_serve_chaos.cluster.kubernetes.client.errors import CONFLICT, NOT_FOUND, status_of
from pytest_serve_chaos.cluster.kubernetes.client.records import Pod, inner, listed, mapped, text
from pytest_serve_chaos.errors import CommandFailed
from pytest_serve_chaos.model import Json

EVICTED_WITHIN = 180.0
"""Seconds for PodDisruptionBudgets to allow the evictions: a budget may wait for a new worker to be ready."""
_NOT_NOW = 429
"""What the API server answers where a PodDisruptionBudget allows no eviction at this moment."""
_ASK_AGAIN_AFTER = 1.0
_LOOKS = 5
"""How often a node that changes while it is looked at is looked at again."""
NO_NOTE: dict[str, Json] = {"metadata": {"annotations": {names.UNDO: None}}}
"""The part of a patch that removes our annotation."""


@dataclass(frozen=True, slots=True)
class CordonNote:
    """What the annotation of a node says that a run has cordoned.

    Attributes:
        rayservice: ``namespace/name`` of the RayService whose pods were to leave it.
        uid: The UID of that RayService; "" in a cluster of the run's own.
    """

    rayservice: str
    uid: str = ""

    def __str__(self) -> str:
        return json.dumps({"rayservice": self.rayservice, "uid": self.uid})

    @classmethod
    def of(cls, node: Mapping[str, Json]) -> CordonNote | None:
        """The note on a node; None where there is none, or it is not one of ours."""
        try:
            said = json.loads(note_on(node))
            return cls(str(said["rayservice"]), str(said["uid"]))
        except (ValueError, TypeError, KeyError, RecursionError):
            return None


def cordon(api: KubeApi, machine: str, *, note: str | None = None) -> None:
    """Lets no more pods onto a Kubernetes node, under our name, so that `reopen` knows whose cordon it is.

    Args:
        api: The Kubernetes API.
        machine: The node.
        note: What its annotation `names.UNDO` says from the same moment on, until it is uncordoned; None: nothing.

    Raises:
        CommandFailed: It was refused.
    """
    body: dict[str, Json] = {"spec": {"unschedulable": True}}
    if note is not None:
        body["metadata"] = {"annotations": {names.UNDO: note}}
    api.nodes.patch(machine, body, what=f"cordoning of {machine}")


def uncordon(api: KubeApi, machine: str, *, version: str = "") -> None:
    """Lets pods onto a Kubernetes node again; one that is gone, as an autoscaler removes what is empty, needs nothing.

    Args:
        api: The Kubernetes API.
        machine: The node.
        version: Its resource version, without which it is left alone; "": whatever it is.

    Raises:
        CommandFailed: It was refused, with the status 409 where it has another version.
    """
    metadata: dict[str, Json] = {"annotations": {names.UNDO: None}, **({"resourceVersion": version} if version else {})}
    body: dict[str, Json] = {"spec": {"unschedulable": None}, "metadata": metadata}  # which leaves no trace of it
    try:
        api.nodes.patch(machine, body, what=f"uncordoning of {machine}")
    except CommandFailed as error:
        if status_of(error) != NOT_FOUND:
            raise


def reopen(api: KubeApi, machine: str, *, uid: str = "") -> str:
    """Uncordons a Kubernetes node if this plugin has cordoned it; leaves the cordon of anybody else.

    The node itself says whose it is: a field in its `managedFields` belongs to the last client that set it, and to
    nobody once it was removed.

    Args:
        api: The Kubernetes API.
        machine: The node.
        uid: Its UID when it was cordoned; "": whatever has that name is meant.

    Returns:
        Why the cordon stays; "" if the node was uncordoned.

    Raises:
        CommandFailed: It was refused.
    """
    for _ in range(_LOOKS):
        try:
            return _reopen(api, machine, uid)
        except CommandFailed as error:
            if status_of(error) != CONFLICT:
                raise
            changed = error
    raise changed


def _reopen(api: KubeApi, machine: str, uid: str) -> str:
    """The same, unless the node changes while it is looked at: somebody may have cordoned it."""
    try:
        node = api.nodes.read(machine)
    except CommandFailed as error:
        if status_of(error) != NOT_FOUND:
            raise
        return f"the node {machine} is gone, so there is nothing to uncordon"
    if uid and uid != text(mapped(node.get("metadata")), "uid"):
        return f"the node {machine} is another one of that name now, so there is nothing to uncordon"
    why_not = _why_not_uncordon(node)
    if not why_not:
        uncordon(api, machine, version=text(mapped(node.get("metadata")), "resourceVersion"))
    elif note_on(node):
        api.nodes.patch(machine, NO_NOTE, what=f"removal of the annotation of {machine}")
    return f"the node {machine} {why_not}" if why_not else ""


def note_on(node: Mapping[str, Json]) -> str:
    """What our annotation on a node says; "" where there is none."""
    return text(inner(node, "metadata", "annotations"), names.UNDO)


def _why_not_uncordon(node: Mapping[str, Json]) -> str:
    """Why a node that is not cordoned, or not by this plugin, stays as it is; "" if this plugin has cordoned it."""
    if not mapped(node.get("spec")).get("unschedulable"):
        return "is not cordoned any more"
    owners = _who_cordoned(node)
    if owners == {names.PROJECT}:
        return ""
    whose = " and ".join(sorted(owners - {names.PROJECT})) or "somebody without a name"
    return f"stays cordoned, now by {whose}"


def _who_cordoned(node: Mapping[str, Json]) -> set[str]:
    entries = listed(mapped(node.get("metadata")).get("managedFields"))
    return {text(entry, "manager") for entry in entries if "f:unschedulable" in inner(entry, "fieldsV1", "f:spec")}


def evict_all(api: KubeApi, pods: Iterable[Pod], *, within: float) -> None:
    """Evicts pods; what a PodDisruptionBudget refuses is asked for again: the end of one may allow that of the next.

    Args:
        api: The Kubernetes API.
        pods: The pods, all of which are asked for in each round.
        within: Seconds for all of them to be allowed.

    Raises:
        CommandFailed: One was refused for another reason.
        WaitTimeout: One was refused until then; the message has the last refusals.
    """
    left = list(pods)

    def probe() -> bool | NotYet:
        refused: list[tuple[Pod, str]] = []
        for pod in left:
            try:
                api.evict_pod(pod.name, pod.uid)
            except CommandFailed as error:
                if status_of(error) == _NOT_NOW:
                    refused.append((pod, error.what))
                elif status_of(error) not in (NOT_FOUND, CONFLICT):  # it has gone by itself, or another has its name
                    raise
        left[:] = [pod for pod, _ in refused]
        return NotYet("; ".join(what for _, what in refused)) if refused else True

    clock.wait_until("the pods to be evicted", probe, timeout=within, interval=_ASK_AGAIN_AFTER)
