"""The objects that stand for Kubernetes nodes; one that was deleted is registered again as it was.

A node that its kubelet registers again gets other addresses for its pods (`podCIDR`), while a pod that has outlived the
deletion keeps the one it has. Where the network leads to pods by the `podCIDR` of their node, as kind's does, a machine
that starts later has no way to that pod.
"""

from __future__ import annotations

from collections.abc import Mapping

from pytest_serve_chaos.cluster.kubernetes.client.api import KubeApi
from pytest_serve_chaos.cluster.kubernetes.client.records import mapped, name_of
from pytest_serve_chaos.model import Json

_KEPT_SPEC = ("podCIDR", "podCIDRs", "providerID")


def registration(api: KubeApi, machine: str) -> dict[str, Json]:
    """What a Kubernetes node has to have again if it is deleted: its name, labels, annotations and addresses.

    Raises:
        CommandFailed: The API server gave no usable answer.
    """
    there = api.nodes.read(machine)
    known, spec = mapped(there.get("metadata")), mapped(there.get("spec"))
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": machine,
            "labels": mapped(known.get("labels")),
            "annotations": mapped(known.get("annotations")),
        },
        "spec": {key: spec[key] for key in _KEPT_SPEC if key in spec},
    }


def register(api: KubeApi, node: Mapping[str, Json]) -> None:
    """Registers a node that is gone; one that is there stays as it is. Its kubelet has to be started again after it.

    Args:
        api: The Kubernetes API.
        node: Its `registration`.

    Raises:
        CommandFailed: It was refused.
    """
    if name_of(node) not in map(name_of, api.nodes.items()):
        api.nodes.create(node)
