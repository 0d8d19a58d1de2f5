"""Repairs what a run has left broken in a kind cluster: machines, Kubernetes nodes, pods and Redis."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Mapping, Sequence
from dataclasses import replace

import yaml

from pytest_serve_chaos import clock, safe_yaml
from pytest_serve_chaos.clock import NotYet
from pytest_serve_chaos.cluster.kubernetes import names
from pytest_serve_chaos.cluster.kubernetes.client.api import KubeApi
from pytest_serve_chaos.cluster.kubernetes.client.drain import NO_NOTE, uncordon
from pytest_serve_chaos.cluster.kubernetes.client.errors import NOT_FOUND, status_of
from pytest_serve_chaos.cluster.kubernetes.client.objects import WorkloadKind
from pytest_serve_chaos.cluster.kubernetes.client.records import inner, listed, mapped, name_of, text
from pytest_serve_chaos.cluster.kubernetes.install.stack import REDIS_SELECTOR
from pytest_serve_chaos.cluster.kubernetes.kind.nodes import KindNodes
from pytest_serve_chaos.cluster.kubernetes.rayservice.programs import tidy
from pytest_serve_chaos.cluster.kubernetes.rayservice.redis import RedisStore
from pytest_serve_chaos.cluster.kubernetes.rayservice.upgrades import lets_the_head_start
from pytest_serve_chaos.errors import ClusterError, ObservationError, WaitTimeout
from pytest_serve_chaos.model import Json

RAY_PODS = f"{names.RAY_CLUSTER},{names.RAY_NODES}"
"""Selects those of every RayCluster: one that an upgrade has replaced, or that a test added to ours, must be gone."""

_KINDS: tuple[WorkloadKind, ...] = ("Deployment", "StatefulSet")
_REDIS_BACK = 60.0
"""Seconds for Redis to be available again."""


class ClusterRepair:
    """Repairs a kind cluster, and remembers what it has repaired.

    Args:
        nodes: The cluster's nodes.
        api: Its Kubernetes API, in our namespace.
        lost: What was found broken already, and ended what ran there.

    Attributes:
        lost: What was broken, and ended what ran there.
        repaired: What was broken, and is as it was.
    """

    def __init__(self, nodes: KindNodes, api: KubeApi, lost: Sequence[str] = ()) -> None:
        self.lost = [*lost]
        self.repaired: list[str] = []
        self._nodes = nodes
        self._api = api

    def machines(self, machines: Mapping[str, str]) -> None:
        """Resumes paused and stopped machines, registers deleted Nodes, and removes cordons and taints.

        Args:
            machines: The machines, each with Docker's word for its state.

        Raises:
            ClusterError: Something cannot be repaired.
        """
        self._wake(machines)
        items = {name_of(item): mapped(item.get("spec")) for item in self._api.nodes.items()}
        for name in machines:
            if name not in items:
                self._nodes.docker.restart_kubelet(name)
                self.lost.append(f"{name} was deleted from Kubernetes")
        for name, spec in items.items():
            self._open(name, spec)
        self._nodes.docker.end_watchdogs()  # all that they wait for is repaired
        self._nodes.docker.forget_connections()

    def pods(self) -> list[str]:
        """Resumes stopped processes of Ray's pods, and removes health flags.

        Returns:
            What was repaired.

        Raises:
            ClusterError: Something cannot be repaired, or not be inspected.
        """
        repaired = [what for pod in self._api.pods(RAY_PODS) if pod.runs for what in tidy(self._api, pod)]
        self.repaired += repaired
        return repaired

    def serve_config(self, ray_service: str, config: str) -> list[str]:
        """Restores the Serve config of a RayService.

        Returns:
            What was repaired.

        Raises:
            ClusterError: Kubernetes refused it, or it cannot be read.
        """
        item = self._api.ray_service(ray_service)
        if _said(text(mapped(item.get("spec")), "serveConfigV2")) != _said(config):
            note = NO_NOTE if _note_of(item) else {}
            self._api.patch_ray_service(ray_service, {**note, "spec": {"serveConfigV2": config}})
            repaired = ["the Serve config was another"]
            self.repaired += repaired
            return repaired
        return []

    def ray_service(self, name: str) -> None:
        """Puts back what a test has changed in the spec of a RayService, as that itself says.

        One that is gone has nothing to put back.

        Raises:
            ClusterError: Kubernetes refused it, or it cannot be read.
        """
        try:
            item = self._api.ray_service(name)
        except ObservationError as error:
            if status_of(error) != NOT_FOUND:
                raise
            return
        config = _note_of(item)
        if config:
            self._api.patch_ray_service(name, {**NO_NOTE, "spec": {"serveConfigV2": config}})
            self.repaired.append("the Serve config was another")
        if names.NOWHERE in inner(
            item, "spec", "rayClusterConfig", "headGroupSpec", "template", "spec", "nodeSelector"
        ):
            self._api.patch_ray_service(name, {"spec": lets_the_head_start()})
            self.repaired.append("the head of its next RayCluster was wanted on no node")

    def redis(self, wanted: RedisStore | None) -> None:
        """Makes the Redis that is there answer, as far as that is possible.

        Args:
            wanted: The Redis that this run wants; an earlier run may have left another one.
        """
        with contextlib.suppress(ClusterError, WaitTimeout):
            stores = _installed(self._api, wanted)
            for store, replicas in stores.items():
                if replicas == 0:
                    store.let_back(self._api)
                    self.repaired.append(f"Redis ({store.workload}) was kept away")

            def available() -> bool | NotYet:
                return all(store.is_available(self._api) for store in stores) or NotYet("not available")

            clock.wait_until("Redis", clock.patient(available), timeout=_REDIS_BACK, interval=0.5)
        with contextlib.suppress(ClusterError):
            # It may be stopped whole, from its machine, which its probe does not notice.
            for pod in self._api.pods(REDIS_SELECTOR):
                if pod.main is not None and pod.main.running:
                    self._nodes.docker.signal_container(pod.node, pod.main.id, signal.SIGCONT)

    def _wake(self, machines: Mapping[str, str]) -> None:
        for name, state in machines.items():
            if state == "paused":
                self._nodes.docker.unpause_machine(name)
                self.repaired.append(f"{name} was paused")
            elif state != "running":
                self._nodes.docker.start_machine(name)
                self.lost.append(f"{name} was {state}")

    def _open(self, node: str, spec: Mapping[str, Json]) -> None:
        if spec.get("unschedulable"):
            uncordon(self._api, node)
            self.repaired.append(f"{node} was cordoned")
        keys = {text(taint, "key") for taint in listed(spec.get("taints"))}
        for key in sorted(keys & {names.NO_HEAD, names.NO_WORKER}):
            self._nodes.kubectl("taint", "nodes", node, f"{key}:NoSchedule-")
            self.repaired.append(f"{node} had the taint {key}")


def _installed(api: KubeApi, wanted: RedisStore | None) -> dict[RedisStore, Json]:
    """Each Redis in our namespace, and how many pods it wants now: none, where a fault has kept them away.

    How many it wanted before is in its annotation; if there is none, as many as `wanted` if it is that one, else one.
    """
    found: dict[RedisStore, Json] = {}
    for kind in _KINDS:
        for item in api.workloads.items(kind):
            if text(inner(item, "spec", "template", "metadata", "labels"), names.PART) != "redis":
                continue
            store = RedisStore(kind, name_of(item))
            if wanted is not None and (wanted.kind, wanted.name) == (store.kind, store.name):
                store = wanted
            before = _note_of(item)
            if before.isdecimal():
                store = replace(store, replicas=int(before))
            found[store] = inner(item, "spec").get("replicas")
    return found


def _note_of(item: Mapping[str, Json]) -> str:
    return text(inner(item, "metadata", "annotations"), names.UNDO)


def _said(config: str) -> Json:
    """What a Serve config says; one that is not YAML is only like itself."""
    try:
        return safe_yaml.read_document(config)
    except yaml.YAMLError:
        return config
