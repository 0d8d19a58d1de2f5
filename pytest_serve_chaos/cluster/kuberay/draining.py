"""What a drain of a Kubernetes node is made of, as `kubectl drain` does it."""

from __future__ import annotations

from pytest_serve_chaos.cluster.kuberay.api import KubeApi
from pytest_serve_chaos.cluster.kuberay.records import Pod
from pytest_serve_chaos.model import Json


def cordon(api: KubeApi, machine: str, *, unschedulable: bool) -> None:
    """Lets no more pods onto a Kubernetes node, or lets them onto it again.

    Raises:
        CommandFailed: It was refused.
    """
    body: Json = {"spec": {"unschedulable": unschedulable or None}}  # None leaves no trace of it
    api.call("patch_node", machine, body, what=f"{'cordoning' if unschedulable else 'uncordoning'} of {machine}")


def evict(api: KubeApi, pod: Pod) -> None:
    """Asks for a pod's graceful end, which a PodDisruptionBudget can refuse.

    Raises:
        CommandFailed: It was refused.
    """
    body: Json = {"metadata": {"name": pod.name, "namespace": api.namespace}}
    api.call("create_namespaced_pod_eviction", pod.name, api.namespace, body, what=f"eviction of pod {pod.name}")
