"""A cluster of one's own: kind nodes with KubeRay, Redis and a RayService, made, used and deleted."""

from __future__ import annotations

import contextlib
import json
import secrets
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_serve_chaos import clock
from pytest_serve_chaos.clock import NotYet
from pytest_serve_chaos.cluster.base import ClusterSpec, Progress
from pytest_serve_chaos.cluster.kind import KindNodes, find_programs
from pytest_serve_chaos.cluster.kind_rayservice import KindRayService
from pytest_serve_chaos.cluster.kuberay import names, render
from pytest_serve_chaos.cluster.kuberay.api import KubeApi
from pytest_serve_chaos.cluster.kuberay.bring_up import BringUp
from pytest_serve_chaos.cluster.kuberay.operator import read_manifests
from pytest_serve_chaos.cluster.kuberay.own_workload import OwnRayService, own_workload
from pytest_serve_chaos.cluster.kuberay.stack import REDIS_SELECTOR, Stack
from pytest_serve_chaos.cluster.kuberay.workload import Workload, our_workload
from pytest_serve_chaos.cluster.rest import Dashboard
from pytest_serve_chaos.cluster.serve_config import first_route
from pytest_serve_chaos.errors import ClusterError, ClusterStartError, CommandFailed, SafetyError, WaitTimeout
from pytest_serve_chaos.model import ClusterDescription, Json

_NODES_READY = 180.0
"""Seconds for the nodes to be Ready once kind has made them."""


@dataclass(frozen=True, slots=True)
class KindSettings:
    """What a kind cluster is made of. All of it can come from this machine alone, so it works without the internet.

    Attributes:
        node_image: The nodes' image; None takes the one that the installed kind was released with.
        ray_image: The image of Ray's containers; its tag says which Ray it is.
        redis_image: Redis' image.
        operator_image: The operator's image; None takes the one that its manifests name.
        kuberay_manifests: A file, a directory or a URL with KubeRay's manifests, or what `kubectl kustomize` takes.
        keep: Leave the kind cluster (not the RayService) when done, and use it again if it is there.
        name: The kind cluster's name; None makes one up, or with `keep` takes ``serve-chaos``.
        timeout: Seconds for each phase of bringing the RayService up.
    """

    node_image: str | None = None
    ray_image: str = "rayproject/ray:2.60.0"
    redis_image: str = "redis:7.0"
    operator_image: str | None = "quay.io/kuberay/operator:v1.6.2"
    kuberay_manifests: str = "github.com/ray-project/kuberay/ray-operator/config/default?ref=v1.6.2"
    keep: bool = False
    name: str | None = None
    timeout: float = 600.0


def start_kind_cluster(
    spec: ClusterSpec,
    settings: KindSettings,
    directory: Path,
    progress: Progress,
    *,
    code: Mapping[str, str] | None = None,
    own: OwnRayService | None = None,
    on_create: Callable[[str], None] | None = None,
    on_delete: Callable[[str], None] | None = None,
) -> KindRayService:
    """Makes kind nodes, installs KubeRay, Redis and the RayService, and waits until it serves.

    Args:
        spec: Which cluster is wanted.
        settings: What it is made of.
        directory: The run's directory, for configs, the kubeconfig, manifests and logs.
        progress: Told of each phase.
        code: Modules for PYTHONPATH in all Ray pods: path -> source. None takes this package's apps, and the code of
            the spec's app where that is on this machine.
        own: A RayService of the user's own, with its Redis, in place of ours; its spec must be the one that is wanted.
        on_create: Called with the kind cluster's name just before it is made, so that its undoing is on record.
        on_delete: Called with that name once it is deleted.

    Raises:
        MissingDependency: A program is missing; nothing was made.
        SettingsError: The app, or the user's own RayService, cannot be used; nothing was made.
        SafetyError: There is such a cluster, and it is not ours; nothing was touched.
        ClusterStartError: It did not come up; what was made is deleted, and what could be learned is in `directory`.
    """
    programs = find_programs()
    directory.mkdir(parents=True, exist_ok=True)
    name = settings.name or (names.KEPT_CLUSTER if settings.keep else f"serve-chaos-{secrets.token_hex(3)}")
    nodes = KindNodes(name, settings.node_image, directory, programs)
    labels = {names.MANAGED_BY: names.PROJECT, names.RUN: name}
    if own is not None:
        workload = own_workload(own, labels, nodes.image_environment)
    else:
        workload = our_workload(spec, settings.ray_image, settings.redis_image, labels, code=code)
    for line in workload.told:
        progress(line)
    return _Start(spec, settings, directory, progress, nodes, workload).run(on_create, on_delete)


def delete_kind_cluster(name: str, directory: Path) -> None:
    """Deletes a kind cluster that a run left because it was ended by force; none of that name is fine.

    Args:
        name: What `on_create` was told.
        directory: Where the log goes.

    Raises:
        MissingDependency: A program is missing.
        CommandFailed: kind failed.
    """
    directory.mkdir(parents=True, exist_ok=True)
    KindNodes(name, None, directory, find_programs()).delete()


class _Start:
    """One start, step by step; ends all that it made when a step fails."""

    def __init__(
        self,
        spec: ClusterSpec,
        settings: KindSettings,
        directory: Path,
        progress: Progress,
        nodes: KindNodes,
        workload: Workload,
    ) -> None:
        self._spec = spec
        self._settings = settings
        self._directory = directory
        self._progress = progress
        self._nodes = nodes
        self._workload = workload
        self._stack: Stack | None = None
        self._on_delete: Callable[[str], None] | None = None
        self._labels = {names.MANAGED_BY: names.PROJECT, names.RUN: nodes.name}
        self._code = render.code_config_map(workload.code, self._labels)  # now: it may be more than one can hold

    def run(self, on_create: Callable[[str], None] | None, on_delete: Callable[[str], None] | None) -> KindRayService:
        self._on_delete = on_delete
        adopt = self._nodes.exists()
        if adopt and not self._settings.keep:
            raise SafetyError(
                f"there is a kind cluster {self._nodes.name} already",
                mend=["say `keep` to use it again, if this plugin made it", "or give another name"],
            )
        if adopt:
            self._nodes.adopt()
            self._nodes.mend()
        if on_create is not None:
            on_create(self._nodes.name)
        try:
            return self._bring_up(create=not adopt)
        except BaseException as error:
            self._give_up(error)
            if isinstance(error, ClusterError | WaitTimeout):
                kept = f"pods, events and logs, as they were: {self._directory}"
                raise ClusterStartError(error.what, looked_at=[*error.looked_at, kept], mend=error.mend) from error
            raise

    def _give_up(self, error: BaseException) -> None:
        self._progress(f"kind: not started: {str(error).partition(chr(10))[0] or type(error).__name__}")
        if self._stack is not None:
            self._stack.describe()
        try:
            self._close()
        except CommandFailed as failure:
            self._progress(f"kind: {failure}")

    def _bring_up(self, *, create: bool) -> KindRayService:
        if create:
            self._create()
        api = KubeApi(self._nodes.kubeconfig, namespace=names.NAMESPACE)
        self._stack = stack = Stack(self._nodes.kubectl, api, self._directory, self._progress)
        self._wait_for_nodes(api)
        if not create:
            stack.remove_left_overs()
        self._install(stack)
        return self._wait_until_it_serves(api, stack)

    def _create(self) -> None:
        began = clock.now()
        ports = _free_ports(2)
        config = render.kind_config(ports[0], ports[1], ray_nodes=self._spec.workers + 1)
        self._progress(f"kind: creating {self._nodes.name}, {self._spec.workers + 2} nodes")
        self._nodes.create(config)
        self._progress(f"kind: created in {clock.now() - began:.1f} s")

    def _wait_for_nodes(self, api: KubeApi) -> None:
        def probe() -> bool | NotYet:
            ready = api.nodes()
            return all(ready.values()) or NotYet(", ".join(f"{node} not Ready" for node, ok in ready.items() if not ok))

        began = clock.now()
        clock.wait_until("the nodes to be Ready", probe, timeout=_NODES_READY, interval=0.5)
        self._progress(f"kind: waited {clock.now() - began:.1f} s for the nodes to be Ready")

    def _install(self, stack: Stack) -> None:
        settings, labels = self._settings, self._labels
        # Cluster DNS must not go with a node that a fault takes away: every name in the cluster hangs on it.
        dns: Json = {"spec": {"template": {"spec": {"nodeSelector": {names.ROLE: "services"}}}}}
        self._nodes.kubectl("-n", "kube-system", "patch", "deployment", "coredns", "-p", json.dumps(dns))
        stack.install("namespace", [render.namespace(labels)])
        work = self._workload
        self._load([settings.operator_image, *work.redis_images], [f"{self._nodes.name}-control-plane"])
        text = read_manifests(settings.kuberay_manifests, lambda source: self._nodes.kubectl("kustomize", source))
        stack.install_operator(render.operator_manifests(text, image=settings.operator_image, labels=labels))
        if work.unchecked:
            stack.check([*work.before, work.ray_service])
        if work.before:
            stack.install_redis(work.before)
        self._load(work.ray_images, self._nodes.ray_nodes())
        stack.wait_for_operator()
        if work.redis is not None:
            stack.wait_for_redis()
        self._nodes.limit_processors()
        stack.install("services", [*render.services(labels), self._code])
        stack.install("rayservice", [work.ray_service])

    def _load(self, images: Sequence[str | None], nodes: Sequence[str]) -> None:
        began = clock.now()
        absent = self._nodes.load([image for image in images if image is not None], nodes)
        loaded = [image for image in images if image is not None and image not in absent]
        if loaded:
            self._progress(f"kind: loaded {', '.join(loaded)} onto {len(nodes)} nodes in {clock.now() - began:.1f} s")
        if absent:
            self._progress(f"kind: Docker does not have {', '.join(absent)}; the nodes will pull it")

    def _wait_until_it_serves(self, api: KubeApi, stack: Stack) -> KindRayService:
        host = "http://127.0.0.1"
        dashboard = Dashboard(f"{host}:{self._nodes.host_port(names.DASHBOARD_NODE_PORT)}")
        url = f"{host}:{self._nodes.host_port(names.TRAFFIC_NODE_PORT)}{first_route(self._workload.serve_config)}"
        up = BringUp(
            api,
            self._workload.name,
            progress=self._progress,
            complaints=stack.complaints,
            timeout=self._settings.timeout,
        )
        ray_cluster = up.ray_cluster()
        up.pods(ray_cluster, self._spec.workers + 1)
        up.serve(dashboard)
        up.ready()
        up.traffic(url)
        cluster = KindRayService(
            self._spec,
            self._nodes,
            api=api,
            ray_cluster=ray_cluster,
            dashboard=dashboard,
            serve_config=self._workload.serve_config,
            description=self._description(dashboard, url, ray_cluster),
            redis_selector=REDIS_SELECTOR if self._workload.redis is not None else None,
            on_close=self._close,
            ray_service=self._workload.name,
            redis_store=self._workload.redis,
        )
        try:
            if self._spec.gcs == "redis":
                cluster.read_storage_namespace()
        except BaseException:
            cluster.stop_watching()
            raise
        return cluster

    def _description(self, dashboard: Dashboard, url: str, ray_cluster: str) -> ClusterDescription:
        return ClusterDescription(
            backend="kind",
            ray_version=dashboard.ray_version(),
            workers=self._spec.workers,
            gcs=self._spec.gcs,
            app=self._spec.app,
            profile=self._spec.profile,
            replicas=sum(dashboard.serve().targets.values()),
            url=url,
            details={
                "kind cluster": self._nodes.name,
                "ray cluster": ray_cluster,
                "image": self._workload.ray_images[0],
                **self._workload.details,
            },
        )

    def _close(self) -> None:
        """Deletes everything, in order; a step that fails does not keep the next from its turn."""
        began = clock.now()
        if self._stack is not None:
            try:
                self._stack.remove()
            except CommandFailed as error:
                self._progress(f"kind: {error}; what is left goes with the cluster")
        if self._settings.keep:
            self._progress(
                f"kind: kept {self._nodes.name}; to delete it: kind delete cluster --name {self._nodes.name}"
            )
            return
        self._nodes.delete()
        if self._on_delete is not None:
            self._on_delete(self._nodes.name)
        self._progress(f"kind: deleted {self._nodes.name} in {clock.now() - began:.1f} s")


def _free_ports(number: int) -> list[int]:
    """Ports on 127.0.0.1 that nobody has; they are all held until all are found, so no two are equal."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(number)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]
