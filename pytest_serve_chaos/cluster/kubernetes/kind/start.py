"""A cluster of one's own: kind nodes with KubeRay, Redis and a RayService, made, used and deleted."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pytest_serve_chaos import clock
from pytest_serve_chaos.cluster.base import ClusterSpec, Progress
from pytest_serve_chaos.cluster.kubernetes import names
from pytest_serve_chaos.cluster.kubernetes.client.api import KubeApi
from pytest_serve_chaos.cluster.kubernetes.client.records import inner
from pytest_serve_chaos.cluster.kubernetes.install import render
from pytest_serve_chaos.cluster.kubernetes.install.file_workload import OwnRayService, own_workload
from pytest_serve_chaos.cluster.kubernetes.install.stack import REDIS_SELECTOR, Stack
from pytest_serve_chaos.cluster.kubernetes.install.workload import Workload, our_workload
from pytest_serve_chaos.cluster.kubernetes.kind.installation import KindInstallation
from pytest_serve_chaos.cluster.kubernetes.kind.nodes import KindNodes, free_ports
from pytest_serve_chaos.cluster.kubernetes.kind.programs import find_programs
from pytest_serve_chaos.cluster.kubernetes.kind.record import Plan, Step
from pytest_serve_chaos.cluster.kubernetes.kind.reuse import (
    WHOLE_WITHIN,
    Kept,
    check_ours,
    is_finished,
    open_kept,
    wait_for_nodes,
)
from pytest_serve_chaos.cluster.kubernetes.kind.second_cluster import SecondClusters
from pytest_serve_chaos.cluster.kubernetes.kind.settings import KindSettings
from pytest_serve_chaos.cluster.kubernetes.rayservice.bring_up import BringUp, serving
from pytest_serve_chaos.cluster.kubernetes.rayservice.cluster import RayServiceCluster
from pytest_serve_chaos.cluster.kubernetes.rayservice.existing import worker_range
from pytest_serve_chaos.cluster.kubernetes.rayservice.owned import BroughtUp, owned_rayservice, sight_from_machines
from pytest_serve_chaos.cluster.kubernetes.rayservice.pods import RayServiceRef
from pytest_serve_chaos.cluster.kubernetes.rayservice.ray_token import RayToken, wants_token
from pytest_serve_chaos.cluster.kubernetes.rayservice.setup import versions
from pytest_serve_chaos.cluster.kubernetes.rayservice.upgrades import aim_dashboard
from pytest_serve_chaos.cluster.rest import Dashboard
from pytest_serve_chaos.cluster.serve_config import first_route
from pytest_serve_chaos.errors import (
    ClusterError,
    ClusterStartError,
    SafetyError,
    ServeChaosError,
    WaitTimeout,
)
from pytest_serve_chaos.model import ClusterDescription
from pytest_serve_chaos.progress import still


def start_kind_cluster(
    spec: ClusterSpec,
    settings: KindSettings,
    directory: Path,
    progress: Progress,
    *,
    own: OwnRayService | None = None,
    on_create: Callable[[str], None] | None = None,
    on_done: Callable[[str], None] | None = None,
) -> RayServiceCluster:
    """Makes kind nodes, installs KubeRay, Redis and the RayService, and waits until it serves.

    With `keep` it takes over what an earlier run left, as far as that is what is wanted.

    Args:
        spec: Which cluster is wanted.
        settings: What it is made of.
        directory: The run's directory, for configs, the kubeconfig, manifests and logs.
        progress: Prints a line about each phase.
        own: A RayService of the user's own, with its Redis, in place of ours; its spec must be the one that is wanted.
        on_create: Called with the kind cluster's name just before it is made, so that its undoing is on record.
        on_done: Called with that name when nothing is to be undone any more: it is deleted, or made and to be kept.

    Raises:
        MissingDependency: A program is missing; nothing was made.
        SettingsError: The app, or the user's own RayService, cannot be used; nothing was made.
        SafetyError: There is such a cluster, and it is not ours; nothing was touched.
        ClusterStartError: It did not come up; what could be learned is in `directory`. What was made is deleted, but
            with `keep` only if the nodes are not finished.
    """
    programs = find_programs()
    directory.mkdir(parents=True, exist_ok=True)
    name = settings.name or (names.KEPT_CLUSTER if settings.keep else f"serve-chaos-{secrets.token_hex(3)}")
    nodes = KindNodes(name, settings.node_image, directory, programs)
    labels = {names.MANAGED_BY: names.PROJECT, names.RUN: name}
    if own is not None:
        workload = own_workload(own, labels, nodes.images.environment_of)
    else:
        workload = our_workload(
            spec, settings.ray_image, settings.redis_image, labels, ray_version=settings.ray_version
        )
    for line in workload.told:
        progress(line)
    start = _Start(spec, settings, directory, progress, nodes, workload, labels)
    start.on_create, start.on_done = on_create or start.on_create, on_done or start.on_done
    return start.run()


def delete_kind_cluster(name: str, directory: Path, *, unfinished: bool = False) -> None:
    """Deletes a kind cluster that a run left because it was ended by force. Does nothing if it does not exist.

    Args:
        name: Its name, as `on_create` got it.
        directory: Where the log goes.
        unfinished: Whether the run was to leave it for the next one; then it is deleted only if it is incomplete.

    Raises:
        MissingDependency: A program is missing.
        SafetyError: This plugin did not make it; nothing was touched.
        CommandFailed: kind failed.
    """
    programs = find_programs()
    if name != names.KEPT_CLUSTER if unfinished else not re.fullmatch(names.OF_ONE_RUN, name):
        raise SafetyError(f"{name} is not a name that this plugin gives to a kind cluster, so it is not deleted")
    directory.mkdir(parents=True, exist_ok=True)
    nodes = KindNodes(name, None, directory, programs)
    if nodes.machines():
        check_ours(nodes)
        if not (unfinished and is_finished(nodes)):
            nodes.delete()


_REBUILDS: Mapping[Step, str] = {
    "renew": "the plugin recreates its RayService",
    "install": "the plugin reinstalls everything on its nodes",
    "create": "the plugin rebuilds it",
}


@dataclass(frozen=True, slots=True)
class _Served:
    """What answers: a RayCluster, the dashboard of its head, and the address for traffic."""

    ray_cluster: str
    dashboard: Dashboard
    url: str = field(repr=False)
    operator_namespace: str


class _Start:
    """One start, step by step; ends all that it made when a step fails, unless that is to be kept."""

    def __init__(
        self,
        spec: ClusterSpec,
        settings: KindSettings,
        directory: Path,
        progress: Progress,
        nodes: KindNodes,
        workload: Workload,
        labels: Mapping[str, str],
    ) -> None:
        self._spec = spec
        self._settings = settings
        self._directory = directory
        self._progress = progress
        self._nodes = nodes
        self._workload = workload
        self._stack: Stack | None = None
        self._kept: Kept | None = None
        self._labels = labels
        self._installation = KindInstallation(
            nodes, settings, workload, labels, number=spec.workers + 1, progress=progress
        )
        self.on_create: Callable[[str], None] = lambda _: None
        self.on_done: Callable[[str], None] = lambda _: None

    def run(self) -> RayServiceCluster:
        begun = clock.now()
        plan = self._look() if self._nodes.exists() else Plan("create")
        try:
            cluster = self._adopt(self._kept) if plan.step == "adopt" and self._kept is not None else None
            if cluster is None:
                return self._bring_up("renew" if plan.step == "adopt" else plan.step)
            self._progress(f"kind: took over {self._nodes.name} in {clock.now() - begun:.1f} s")
            return cluster
        except BaseException as error:
            self._give_up(error)
            if isinstance(error, ClusterError | WaitTimeout):
                kept = f"pods, events and logs, as they were: {self._directory}"
                raise ClusterStartError(error.what, checked=[*error.checked, kept], fix=error.fix) from error
            raise

    def _give_up(self, error: BaseException) -> None:
        try:
            self._progress(f"kind: not started: {str(error).partition(chr(10))[0] or type(error).__name__}")
            if not isinstance(error, Exception):
                self._stack = None  # who ends a run, as Ctrl-C does, may kill it soon: the machines are to go at once
            if self._stack is not None:
                self._stack.describe()
        except (ServeChaosError, OSError) as failure:
            self._progress(f"kind: the state of the cluster could not be saved: {failure}")
        finally:
            try:
                self._close()
            except (ServeChaosError, OSError) as failure:
                self._progress(f"kind: {failure}")

    # -- what an earlier run left -------------------------------------------------------------------------------

    def _look(self) -> Plan:
        """What to do with the cluster that exists. Repairs its machines if they can be used."""
        name = self._nodes.name
        if not self._settings.keep:
            raise SafetyError(
                f"there is a kind cluster {name} already",
                fix=["set `keep` to reuse it, if this plugin created it", "or give another name"],
            )
        wishes = self._installation.wishes
        try:
            self._kept = open_kept(self._nodes, wishes, self._progress)
            plan = self._kept.look()
        except (ClusterError, WaitTimeout) as error:
            raise ClusterStartError(
                f"the kind cluster {name} of an earlier run cannot be reused: {error.what}",
                checked=error.checked,
                fix=[*error.fix, f"{'or ' if error.fix else ''}delete it: kind delete cluster --name {name}"],
            ) from error
        if plan.reason:
            self._progress(f"kind: {name} is there, but {plan.reason}; {_REBUILDS[plan.step]}")
        return plan

    def _adopt(self, kept: Kept) -> RayServiceCluster | None:
        """Takes over all that is there; None where it turns out not to be as it was left."""
        kept.begin()
        served: _Served | None = None
        try:
            kept.repair_pods()
            served = self._wait_until_it_serves(kept.api, self._stack_on(kept.api), WHOLE_WITHIN)
            kept.wait_until_whole(served.dashboard)
            return self._cluster(kept.api, served)
        except ServeChaosError as error:
            if served is not None:
                served.dashboard.close()
            self._progress(f"kind: {self._nodes.name} is not as it was left: {error.what}; {_REBUILDS['renew']}")
            return None

    # -- a new one ----------------------------------------------------------------------------------------------

    def _bring_up(self, step: Step) -> RayServiceCluster:
        stale = self._kept
        if stale is not None and (step == "create" or not stale.clear(self._stack_on(stale.api))):
            stale.api.close()
            step, self._kept, self._stack = "create", None, None
            self._nodes.delete()
        if step == "create":
            self._create()
        api = self._kept.api if self._kept is not None else self._api()
        stack = self._stack_on(api)
        if step != "renew":
            self._claim(api, stack)
        if step == "create":
            wait_for_nodes(api, self._progress)
        if step == "install":
            stack.remove_operator()
        self._installation.install(stack, base=step != "renew")
        served = self._wait_until_it_serves(api, stack, self._settings.timeout)
        if self._kept is not None:
            self._kept.note_all(stack.operator_namespace, served.dashboard.serve())
        return self._cluster(api, served)

    def _api(self) -> KubeApi:
        return KubeApi(self._nodes.kubeconfig, namespace=self._workload.namespace)

    def _create(self) -> None:
        began = clock.now()
        ports = free_ports(2)
        config = render.kind_config(ports[0], ports[1], ray_nodes=self._spec.workers + 1)
        self._progress(f"kind: creating {self._nodes.name}, {self._spec.workers + 2} nodes")
        self.on_create(self._nodes.name)
        with still(f"creating {self._nodes.name}", self._progress, self._nodes.last_said, who="kind"):
            self._nodes.create(config)
        self._progress(f"kind: created in {clock.now() - began:.1f} s")

    def _stack_on(self, api: KubeApi) -> Stack:
        where = "default" if self._kept is None else self._kept.operator
        self._stack = Stack(self._nodes.kubectl, api, self._directory, self._progress, where)
        return self._stack

    def _claim(self, api: KubeApi, stack: Stack) -> None:
        """Makes our namespace, on which a cluster that is to be kept says at once that there are machines."""
        stack.install("namespace", [render.namespace(self._labels)])
        if self._settings.keep:
            self._kept = self._kept or Kept(self._nodes, api, self._installation.wishes, self._progress)
            self._kept.note_machines()
            self.on_done(self._nodes.name)

    def _wait_until_it_serves(self, api: KubeApi, stack: Stack, timeout: float) -> _Served:
        host = "http://127.0.0.1"
        port = self._nodes.host_port(names.DASHBOARD_NODE_PORT)
        dashboard = Dashboard(f"{host}:{port}", _token(api, self._workload))
        url = f"{host}:{self._nodes.host_port(names.TRAFFIC_NODE_PORT)}{first_route(self._workload.serve_config)}"
        name = self._workload.name
        up = BringUp(
            api,
            name,
            progress=self._progress,
            complaints=stack.complaints,
            timeout=timeout,
            probe=self._settings.probe,
        )
        try:
            ray_cluster = up.ray_cluster()
            aim_dashboard(api, ray_cluster)
            up.pods(ray_cluster, self._spec.workers + 1)
            up.serve(dashboard)
            _check_ray(self._settings.ray_version, dashboard.ray_version())
            up.ready()
            up.traffic(url, self._workload.serve_config)
        except BaseException:
            dashboard.close()
            raise
        return _Served(ray_cluster, dashboard, url, stack.operator_namespace)

    def _cluster(self, api: KubeApi, served: _Served) -> RayServiceCluster:
        work = self._workload
        up = BroughtUp(
            RayServiceRef(
                self._spec, work.name, served.ray_cluster, _redis_selector(work), _worker_range(self._spec, work)
            ),
            api,
            served.dashboard,
            work.serve_config,
            _description(self._spec, work, self._nodes.name, api, served),
            work.redis,
            served.operator_namespace,
        )
        return owned_rayservice(
            up,
            sight_from_machines(up, self._nodes.docker),
            self._nodes.docker,
            self._nodes.taints,
            start_second=self._second_clusters().start,
            on_close=self._close,
            on_vouch=None if self._kept is None else self._kept.vouch,
        )

    def _second_clusters(self) -> SecondClusters:
        return SecondClusters(
            self._workload.ray_service,
            kubectl=self._nodes.kubectl,
            kubeconfig=self._nodes.kubeconfig,
            directory=self._directory,
            progress=self._progress,
            complaints=lambda: self._stack.complaints() if self._stack is not None else (),
            timeout=self._settings.timeout,
        )

    def _close(self) -> None:
        """Deletes everything, in order; whatever ends a step, Ctrl-C among it, does not keep the nodes from going."""
        name, began = self._nodes.name, clock.now()
        if self._kept is not None:
            if name == names.KEPT_CLUSTER:  # any other goes when its run ends
                self._progress(f"kind: left {name} for the next run; to delete it: kind delete cluster --name {name}")
            return
        try:
            if self._stack is not None:
                self._stack.remove()
        except (ServeChaosError, OSError) as error:
            self._progress(f"kind: {error}; what is left goes with the cluster")
        finally:
            self._nodes.delete()
            self.on_done(name)
            self._progress(f"kind: deleted {name} in {clock.now() - began:.1f} s")


def _worker_range(spec: ClusterSpec, workload: Workload) -> tuple[int, int] | None:
    """The least and the most workers, where the user's file has an autoscaler: there is no node for more."""
    scaled = worker_range(workload.ray_service)
    return None if scaled is None else (min(scaled[0], spec.workers), spec.workers)


def _redis_selector(workload: Workload) -> str | None:
    """Labels of the Redis that is ours to break, where there is one."""
    return REDIS_SELECTOR if workload.redis is not None else None


def _description(
    spec: ClusterSpec, workload: Workload, cluster: str, api: KubeApi, served: _Served
) -> ClusterDescription:
    dashboard = served.dashboard
    details = {"kind cluster": cluster, "ray cluster": served.ray_cluster, "image": workload.ray_images[0]}
    runs_on = versions(api, operator_namespace=served.operator_namespace, redis=_redis_selector(workload))
    return ClusterDescription(
        backend="kind",
        ray_version=dashboard.ray_version(),
        workers=spec.workers,
        gcs=spec.gcs,
        ingress=spec.ingress,
        app=spec.app,
        profile=spec.profile,
        replicas=sum(dashboard.serve().targets.values()),
        url=served.url,
        details={**details, **runs_on, **workload.details},
    )


def _check_ray(wanted: str | None, found: str) -> None:
    if wanted not in (None, found):
        raise ClusterStartError(
            f"the pods run Ray {found}, and not {wanted}",
            checked=["/api/version of the dashboard"],
            fix=[f"--serve-chaos-ray-version={found}", f"or give an image that has Ray {wanted}"],
        )


def _token(api: KubeApi, workload: Workload) -> Callable[[], Mapping[str, str]] | None:
    """What to show Ray, where it wants a token."""
    name, spec = workload.name, inner(workload.ray_service, "spec", "rayClusterConfig")
    return RayToken(api, lambda: serving(api.ray_service(name))).headers if wants_token(spec) else None
