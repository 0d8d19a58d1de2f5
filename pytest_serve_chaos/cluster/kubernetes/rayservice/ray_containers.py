"""Which container of a pod is Ray's: the one whose name the RayCluster's template has first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from pytest_serve_chaos.cluster.kubernetes.client.records import Pod, inner, listed, mapped, shared_processes, text
from pytest_serve_chaos.model import Json

_GROUP = "ray.io/group"
"""The label by which KubeRay says of which group of its RayCluster a pod is."""

_HEAD_GROUP = "headgroup"


def names_of(ray_service: Mapping[str, Json]) -> dict[str, str]:
    """Group -> the name of its Ray container, as KubeRay has it; those whose template has none are left out."""
    found = {group: _first(spec) for group, spec in _pods(ray_service)}
    return {group: name for group, name in found.items() if name}


def shared_by(ray_service: Mapping[str, Json], pods: Sequence[Pod]) -> str:
    """Which field of its templates, or of its pods, has containers see processes of others; "" where none does.

    Args:
        ray_service: A RayService.
        pods: The pods that were made by it: others may have changed them.
    """
    fields = [shared_processes(spec) for _, spec in _pods(ray_service)] + [pod.shares_processes for pod in pods]
    return next(filter(None, fields), "")


def with_ray_container(pod: Pod, by_group: Mapping[str, str]) -> Pod:
    """The pod with its Ray container as the main one, whatever somebody has put before that."""
    name = by_group.get(pod.labels.get(_GROUP, ""), "")
    return replace(pod, main_name=name) if name else pod


def _pods(ray_service: Mapping[str, Json]) -> list[tuple[str, dict[str, Json]]]:
    """Group -> the spec of its pods."""
    cluster = inner(ray_service, "spec", "rayClusterConfig")
    groups = [(_HEAD_GROUP, mapped(cluster.get("headGroupSpec")))]
    groups += [(text(group, "groupName"), group) for group in listed(cluster.get("workerGroupSpecs"))]
    return [(name, inner(group, "template", "spec")) for name, group in groups]


def _first(pod: Mapping[str, Json]) -> str:
    return next((text(container, "name") for container in listed(pod.get("containers"))), "")
