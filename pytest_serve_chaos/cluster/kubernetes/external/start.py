"""Connects to an external RayService: reads it, asks what this user may do, and changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace

from pytest_serve_chaos import clock
from pytest_serve_chaos.analysis.configuration import LOST_WITH_HEAD
from pytest_serve_chaos.clock import NotYet
from pytest_serve_chaos.cluster.base import ClusterSpec, Progress
from pytest_serve_chaos.cluster.blind_spots import blind_spots
from pytest_serve_chaos.cluster.kubernetes import names
from pytest_serve_chaos.cluster.kubernetes.client.access import Permit
from pytest_serve_chaos.cluster.kubernetes.client.api import KubeApi
from pytest_serve_chaos.cluster.kubernetes.client.errors import NOT_FOUND, status_of
from pytest_serve_chaos.cluster.kubernetes.client.lease import RunLease
from pytest_serve_chaos.cluster.kubernetes.client.records import listed, mapped, text
from pytest_serve_chaos.cluster.kubernetes.client.server_identity import FirstServer
from pytest_serve_chaos.cluster.kubernetes.external import rights
from pytest_serve_chaos.cluster.kubernetes.external.object_names import names_there
from pytest_serve_chaos.cluster.kubernetes.external.owner import Pinned
from pytest_serve_chaos.cluster.kubernetes.external.policy import Grants
from pytest_serve_chaos.cluster.kubernetes.external.rayservice import Connected, external_rayservice
from pytest_serve_chaos.cluster.kubernetes.external.recorded_faults import UndoRecords
from pytest_serve_chaos.cluster.kubernetes.logs.operator import SELECTOR
from pytest_serve_chaos.cluster.kubernetes.rayservice import ray_containers
from pytest_serve_chaos.cluster.kubernetes.rayservice.cluster import RayServiceCluster
from pytest_serve_chaos.cluster.kubernetes.rayservice.existing import FoundRayService, differences, read_ray_service
from pytest_serve_chaos.cluster.kubernetes.rayservice.head_service import dashboard_behind
from pytest_serve_chaos.cluster.kubernetes.rayservice.probe import Probe
from pytest_serve_chaos.cluster.kubernetes.rayservice.ray_token import RayToken
from pytest_serve_chaos.cluster.kubernetes.rayservice.setup import versions
from pytest_serve_chaos.cluster.proxy_location import check_proxy_location
from pytest_serve_chaos.cluster.rest import HAPROXY_MANAGER, Dashboard, ServeStatus
from pytest_serve_chaos.errors import ClusterStartError, ObservationError, Unsupported, WaitTimeout
from pytest_serve_chaos.masking import masked
from pytest_serve_chaos.model import ClusterDescription, Json

_GROUP = "ray.io"
_SERVES_WITHIN = 60.0
_OPERATORS_LOG = "the log of KubeRay's operator"


@dataclass(frozen=True, slots=True)
class ExternalCluster:
    """An external cluster, and what the plugin may do to it.

    Attributes:
        context: The kubeconfig context.
        namespace: The RayService's namespace.
        name: Its name.
        url: Where its app answers.
        allow: What may be broken in addition to its pods: ``node``.
        probe: The request that traffic sends to it.
        operator_namespace: Where KubeRay's operator is, for its log; None: perhaps in that namespace.
    """

    context: str
    namespace: str
    name: str
    url: str = field(repr=False)
    allow: Collection[str] = ()
    probe: Probe = field(default_factory=Probe)
    operator_namespace: str | None = None


class OwnPods:
    """The pods of one RayService, and the nodes that they are on. Safe to use from several threads.

    It is the RayService, and the RayCluster, that there were at the first look: those that its owner makes later under
    the same name are others. A pod that once was there stays known: KubeRay gives its name only to a pod of the same
    RayCluster again.

    Args:
        api: The Kubernetes API, in the RayService's namespace; it is only read.
        name: The RayService.
    """

    def __init__(self, api: KubeApi, name: str) -> None:
        self._api = api
        self._name = name
        self._pinned: Pinned | None = None
        self._ray_cluster_uid = ""
        self._pods: frozenset[str] = frozenset()
        self._nodes: frozenset[str] = frozenset()

    def owns(self, name: str) -> bool:
        """Whether that pod is, or was, the RayService's."""
        if name not in self._pods:
            self._look()
        return name in self._pods

    def carries(self, node: str) -> bool:
        """Whether a pod of the RayService is, or was, on that node."""
        if node not in self._nodes:
            self._look()
        return node in self._nodes

    def _look(self) -> None:
        now = Pinned.of(self._api.ray_service(self._name))
        first = self._pinned = self._pinned or now
        if now.uid != first.uid or not first.ray_cluster:
            return
        items = self._api.raw_pods(f"{names.RAY_CLUSTER}={first.ray_cluster}")
        # A label can be given by anybody; the owner is written by KubeRay.
        owners = [_ray_cluster_uid(item, first.ray_cluster) for item in items]
        found = {uid for uid in owners if uid}
        if not self._ray_cluster_uid and len(found) == 1:
            (self._ray_cluster_uid,) = found
        for item, uid in zip(items, owners, strict=True):
            if uid and uid == self._ray_cluster_uid:
                self._pods |= {text(mapped(item.get("metadata")), "name")}
                self._nodes |= {text(mapped(item.get("spec")), "nodeName")} - {""}


def _ray_cluster_uid(pod: Mapping[str, Json], ray_cluster: str) -> str:
    """The UID of the RayCluster of that name that controls a pod; "" if none does."""
    for owner in listed(mapped(pod.get("metadata")).get("ownerReferences")):
        group = text(owner, "apiVersion").partition("/")[0]
        if (group, text(owner, "kind"), text(owner, "name")) == (_GROUP, "RayCluster", ray_cluster):
            return text(owner, "uid") if owner.get("controller") else ""
    return ""


def connect(
    external: ExternalCluster,
    wanted: ClusterSpec,
    permit: Permit,
    progress: Progress,
    *,
    records: UndoRecords,
    on_close: Callable[[], None],
    first: FirstServer | None = None,
    lease: RunLease | None = None,
) -> RayServiceCluster:
    """Connects to the RayService, to test it.

    Args:
        external: The external cluster.
        wanted: The cluster that a test wants.
        permit: The guard, asked before each request.
        progress: Prints a line about each phase.
        records: Where changes are on record until they are undone.
        on_close: Called when the test is over, or could not begin.
        first: The server that the guard looks at, and that everything must go to; None: any.
        lease: That of this run on the RayService, looked at before each fault.

    Raises:
        SafetyError: The kubeconfig leads to another server now.
        Unsupported: The test wants another cluster than it is.
        SettingsError: Serve has no proxies there.
        ClusterStartError: It does not serve, or this user may not look at it.
    """
    try:
        api = KubeApi(None, context=external.context, namespace=external.namespace, permit=permit, first=first)
    except BaseException:
        on_close()
        raise
    try:
        sight = rights.look(external.probe.method)
        asked = (*sight, *rights.BREAK, *rights.LIMITS, *rights.operator_log(external.operator_namespace))
        lacking = rights.missing(api, asked, names_there(api, external.name))
        _check_sight(external, [right for right in sight if right in lacking])
        item = existing(api, external)
        found, pinned = read_ray_service(item), Pinned.of(item)
        _check(found, wanted)
        check_proxy_location(found.serve_config, f"serveConfigV2 of RayService {found.name}")
        _check_token(found, lacking)
        token = RayToken(api, lambda: found.ray_cluster) if found.wants_token else None
        dashboard = dashboard_behind(api, found.head_service, token)
        status = _wait_until_it_serves(found, dashboard)
        found = _with_ingress_that_runs(found, dashboard)
        progress(f"kubernetes: test RayService {external.namespace}/{external.name} of context {external.context}")
        readable = not set(rights.operator_log(external.operator_namespace)) & set(lacking)
        operator = external.operator_namespace if readable else None
        unseen = blind_spots(found.serve_config)
        unlocked = [lease.note] if lease is not None and lease.note else []
        shared = ray_containers.shared_by(item, api.pods(f"{names.RAY_CLUSTER}={found.ray_cluster}"))
        for note in (
            *unlocked,
            *_shared(shared),
            *unkept_logs(lacking, external.operator_namespace),
            *_unseen_limits(lacking),
            *_no_operator(api, operator),
            *unseen,
        ):
            progress(f"kubernetes: {note}")
        runs_on = versions(api, operator_namespace=operator)
        description = _description(external, found, dashboard.ray_version(), sum(status.targets.values()), runs_on)
        return external_rayservice(
            Connected(
                found.as_wanted(wanted),
                api,
                dashboard,
                description,
                external.probe,
                status.targets,
                pinned,
                ray_containers.names_of(item),
                operator,
                url=external.url,
            ),
            Grants(frozenset(lacking), external.allow, shared),
            records,
            on_close=on_close,
            progress=progress,
            check_server=api.check_server,
            check_lease=(lambda: None) if lease is None else lease.check,
        )
    except BaseException:
        api.close()
        on_close()
        raise


def _check_sight(external: ExternalCluster, lacking: Collection[rights.Right]) -> None:
    if lacking:
        raise ClusterStartError(
            f"this user may not {', '.join(map(str, lacking))} in namespace {external.namespace}, but must",
            checked=["a SelfSubjectAccessReview for each right"],
            fix=[f"apply what this prints: serve-chaos rbac {external.namespace}/{external.name} --tier look"],
        )


def _check_token(found: FoundRayService, lacking: Collection[rights.Right]) -> None:
    wanting = ", ".join(str(right) for right in rights.RUN if right in lacking)
    if found.wants_token and wanting:
        raise ClusterStartError(
            f"RayService {found.name} has authOptions, and this user may not {wanting}, so Ray does not answer",
            checked=["spec.rayClusterConfig.authOptions, and a SelfSubjectAccessReview for each right"],
            fix=["bind a role with these rights: Ray's token is read in a pod, where KubeRay has put it"],
        )


def unkept_logs(lacking: Collection[rights.Right], operator_namespace: str | None = None) -> list[str]:
    """Which logs will be lost with their pods, and why."""
    wanted = {
        "what containers write to their output": [rights.LOGS],
        "Ray's and Serve's log files": rights.RUN,
        _OPERATORS_LOG: rights.operator_log(operator_namespace),
    }
    return [
        f"{logs} will not be kept: this user may not {', '.join(str(right) for right in needed if right in lacking)}"
        for logs, needed in wanted.items()
        if set(needed) & set(lacking)
    ]


def _unseen_limits(lacking: Collection[rights.Right]) -> list[str]:
    """What is not known before a fault without the right to look at it."""
    may_not = ", ".join(str(right) for right in rights.LIMITS if right in lacking)
    if not may_not:
        return []
    return [
        "ResourceQuotas and LimitRanges could not be looked at, so it is unknown whether Kubernetes would refuse a pod"
        f" that replaces a lost one: this user may not {may_not}"
    ]


def _shared(field: str) -> list[str]:
    """What a field of the pods costs that has their containers see processes of others."""
    if not field:
        return []
    return [
        f"the pods have {field}, so the plugin runs no program in them: it sees actors by the GCS alone, keeps none of"
        " Ray's log files, and skips each fault that takes such a program"
    ]


def _no_operator(api: KubeApi, namespace: str | None) -> list[str]:
    """The same, where KubeRay's operator is not where the user says."""
    if namespace is None:
        return []
    try:
        found = api.pods(SELECTOR, namespace=namespace)
    except ObservationError:
        return []  # it will be looked for again while a test runs
    if found:
        return []
    return [f"{_OPERATORS_LOG} will not be kept: no pod in namespace {namespace} has the label {SELECTOR}"]


def existing(api: KubeApi, external: ExternalCluster) -> Mapping[str, Json]:
    """The RayService as the API server gives it.

    Raises:
        ClusterStartError: There is none.
    """
    try:
        return api.ray_service(external.name)
    except ObservationError as error:
        if status_of(error) != NOT_FOUND:
            raise
        raise ClusterStartError(
            f"there is no RayService {external.namespace}/{external.name} in context {external.context}",
            checked=error.checked,
            fix=["see `kubectl get rayservices`: its owner may have deleted it since the run began"],
        ) from error


def _check(found: FoundRayService, wanted: ClusterSpec) -> None:
    if not found.ray_cluster or found.pending:
        raise ClusterStartError(
            f"RayService {found.name} is being upgraded to {found.pending}" if found.ray_cluster
            else f"RayService {found.name} serves nothing yet",
            checked=["status.activeServiceStatus and status.pendingServiceStatus"],
            fix=["wait until it is done"],
        )  # fmt: skip
    others = differences(wanted, found.as_wanted(wanted).spec)
    if others:
        raise Unsupported(f"the test wants {', '.join(others)}, and the plugin does not change RayService {found.name}")


def _wait_until_it_serves(found: FoundRayService, dashboard: Dashboard) -> ServeStatus:
    def probe() -> ServeStatus | NotYet:
        try:
            status = dashboard.serve()
        except ObservationError as error:
            return NotYet(str(error))
        apps = {app: state for app, state in status.apps.items() if state != "RUNNING"}
        return NotYet(f"apps {dict(status.apps)}") if apps or not status.apps else status

    try:
        return clock.wait_until("its apps to be RUNNING", probe, timeout=_SERVES_WITHIN, interval=1.0)
    except WaitTimeout as error:
        raise ClusterStartError(
            f"RayService {found.name} is not healthy, so no fault is injected: {error}",
            checked=[dashboard.url],
            fix=["see `kubectl describe rayservice`"],
        ) from error


def _with_ingress_that_runs(found: FoundRayService, dashboard: Dashboard) -> FoundRayService:
    """The RayService with HAProxy as its ingress if that runs: an image can turn it on, too."""
    try:
        managers = dashboard.actors(class_name=HAPROXY_MANAGER)
    except ObservationError:
        return found
    return replace(found, ingress="haproxy") if any(row.state == "ALIVE" for row in managers) else found


def _description(
    external: ExternalCluster, found: FoundRayService, ray_version: str, replicas: int, runs_on: Mapping[str, Json]
) -> ClusterDescription:
    return ClusterDescription(
        backend="kubernetes",
        ray_version=ray_version,
        workers=found.workers,
        gcs=found.gcs,
        app=found.app,
        profile=found.spec.profile,
        ingress=found.ingress,
        replicas=replicas,
        url=masked(external.url),
        details={
            "context": external.context,
            "rayservice": f"{external.namespace}/{external.name}",
            "ray cluster": found.ray_cluster,
            **({LOST_WITH_HEAD: found.lost} if found.lost else {}),
            **runs_on,
        },
    )
