"""An external RayService: faults break it as far as its owner allows, and nothing else changes it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from pytest_serve_chaos.cluster.base import Progress
from pytest_serve_chaos.cluster.capabilities import (
    DRAINS_MACHINES,
    FREEZES_NODES,
    HAS_PROXY_ENDPOINTS,
    HAS_REDIS,
    IS_EXTERNAL,
    KILLS_ACTORS,
    KILLS_NODES,
    RECORDS_STALE_PROXIES,
    SEES_CHILDREN,
    SETS_HEALTH_FLAGS,
    SIGNALS_PROCESSES,
)
from pytest_serve_chaos.cluster.dry_run import EXPLAINS_CHANGES
from pytest_serve_chaos.cluster.kubernetes.client.api import KubeApi
from pytest_serve_chaos.cluster.kubernetes.client.pod_watch import PodWatch
from pytest_serve_chaos.cluster.kubernetes.client.records import mapped
from pytest_serve_chaos.cluster.kubernetes.external import rights
from pytest_serve_chaos.cluster.kubernetes.external.admission import Admission
from pytest_serve_chaos.cluster.kubernetes.external.admitted_faults import (
    AdmittedActorKills,
    AdmittedFlags,
    AdmittedSignals,
)
from pytest_serve_chaos.cluster.kubernetes.external.drains import ExternalDrains
from pytest_serve_chaos.cluster.kubernetes.external.explanations import ExternalExplanations
from pytest_serve_chaos.cluster.kubernetes.external.owner import OwnerWatch, Pinned
from pytest_serve_chaos.cluster.kubernetes.external.policy import Grants
from pytest_serve_chaos.cluster.kubernetes.external.proxies import ExternalProxies
from pytest_serve_chaos.cluster.kubernetes.external.recorded_faults import (
    AdmittedDeletions,
    Ledger,
    RecordedFlags,
    RecordedFreezes,
    RecordedSignals,
    UndoRecords,
)
from pytest_serve_chaos.cluster.kubernetes.external.stale_proxies import RecordedProxies
from pytest_serve_chaos.cluster.kubernetes.logs.stream import LogAccess
from pytest_serve_chaos.cluster.kubernetes.rayservice.children import PodChildren
from pytest_serve_chaos.cluster.kubernetes.rayservice.cluster import Ends, RayServiceCluster, RunningConfig
from pytest_serve_chaos.cluster.kubernetes.rayservice.existing import FoundRayService
from pytest_serve_chaos.cluster.kubernetes.rayservice.node_faults import NodeFreezes, PodDeletions
from pytest_serve_chaos.cluster.kubernetes.rayservice.parts import pod_parts
from pytest_serve_chaos.cluster.kubernetes.rayservice.pods import RayServiceRef
from pytest_serve_chaos.cluster.kubernetes.rayservice.probe import Probe
from pytest_serve_chaos.cluster.kubernetes.rayservice.process_faults import ActorKills, HealthFlags, ProcessSignals
from pytest_serve_chaos.cluster.kubernetes.rayservice.process_watch import ProcessWatch
from pytest_serve_chaos.cluster.kubernetes.rayservice.redis import PodRedis
from pytest_serve_chaos.cluster.kubernetes.rayservice.redis_kind import REDIS_PORT, RedisMode, pods_mode
from pytest_serve_chaos.cluster.kubernetes.rayservice.view import RayServiceView, Sight
from pytest_serve_chaos.cluster.policy import Touch
from pytest_serve_chaos.cluster.rest import Dashboard
from pytest_serve_chaos.errors import CommandFailed, ObservationError, Unsupported
from pytest_serve_chaos.model import ClusterDescription, Component, Json
from pytest_serve_chaos.traffic.request import Message


@dataclass(frozen=True, slots=True)
class Connected:
    """An external RayService to which there is a connection.

    Attributes:
        found: What it is.
        api: The Kubernetes API in its namespace; its guard lets nothing else be changed.
        dashboard: The dashboard of its head.
        description: What it is, for reports.
        probe: The request that traffic sends to it.
        targets: ``app#Deployment`` -> wanted replicas, as Serve said at the beginning.
        pinned: Which RayService of that name it is, as it was at the beginning.
        ray_containers: Group -> the name of its Ray container.
        operator_namespace: Where KubeRay's operator is, and can be seen; None: perhaps in the RayService's namespace.
        url: Where traffic goes, with the credentials that may be in it; None: as the description says.
    """

    found: FoundRayService
    api: KubeApi
    dashboard: Dashboard
    description: ClusterDescription
    probe: Probe
    targets: Mapping[str, int]
    pinned: Pinned
    ray_containers: Mapping[str, str] = field(default_factory=dict)
    operator_namespace: str | None = None
    url: str | None = field(default=None, repr=False)

    @property
    def address(self) -> str:
        """Where traffic goes."""
        return self.description.url if self.url is None else self.url


def external_rayservice(
    to: Connected,
    grants: Grants,
    records: UndoRecords,
    *,
    on_close: Callable[[], None] | None = None,
    progress: Progress = lambda _: None,
    check_server: Callable[[], None] = lambda: None,
    check_lease: Callable[[], None] = lambda: None,
) -> RayServiceCluster:
    """The cluster, with all that may be done to it.

    Args:
        to: What it is, and the connection.
        grants: What its owner and this user's rights allow.
        records: Where changes are on record until they are undone.
        on_close: Called when the cluster is closed.
        progress: Prints a line about a drained node that is not uncordoned.
        check_server: Raises if the kubeconfig leads to another server than at the beginning.
        check_lease: Raises if another run has the RayService.
    """
    found = to.found
    view = RayServiceView(
        to.api,
        to.dashboard,
        RayServiceRef(
            found.spec,
            found.name,
            found.ray_cluster,
            worker_range=found.worker_range,
            ray_containers=to.ray_containers,
        ),
        _sight(to, grants),
    )
    config = RunningConfig(found.serve_config, _refuse_config)
    api, pods = view.api, view.pods
    admission = Admission(view, found.spec, grants, to.targets, str(found.serve_config.get("proxy_location") or ""))
    ledger = Ledger(records.broken)
    proxies = ExternalProxies(view, config, to.address, to.probe)
    drains = ExternalDrains(view, admission, records, progress)
    offers = (
        *pod_parts(view, config, to.description.ray_version, partial(_redis_items, api, found.redis), _mode_at(found)),
        DRAINS_MACHINES.by(drains),
        EXPLAINS_CHANGES.by(ExternalExplanations(view)),
        FREEZES_NODES.by(RecordedFreezes(NodeFreezes(api, pods), admission, ledger, pods)),
        HAS_PROXY_ENDPOINTS.by(proxies),
        HAS_REDIS.by(PodRedis(view)),
        IS_EXTERNAL.by(ExternalFaults(check_server, check_lease, admission, OwnerWatch(api, to.pinned), proxies)),
        KILLS_ACTORS.by(AdmittedActorKills(ActorKills(api, pods, view.dashboard), admission)),
        KILLS_NODES.by(AdmittedDeletions(PodDeletions(api, pods, view.removals), admission)),
        RECORDS_STALE_PROXIES.by(RecordedProxies(api, pods, records.stale)),
        SEES_CHILDREN.by(PodChildren(api, pods)),
        SETS_HEALTH_FLAGS.by(AdmittedFlags(RecordedFlags(HealthFlags(api, pods), ledger, pods), admission)),
        SIGNALS_PROCESSES.by(AdmittedSignals(RecordedSignals(ProcessSignals(api, pods), ledger, pods), admission)),
    )
    return RayServiceCluster(view, config, to.description, offers, Ends((drains.close,), on_close), url=to.address)


class ExternalFaults:
    """What is asked of an external cluster alone. Has the capability `IsExternal`.

    Args:
        check_server: Raises if the kubeconfig leads to another server than at the beginning.
        check_lease: Raises if another run has the RayService.
        admission: Says what may be broken.
        owner: Says whether its owner has changed it.
        proxies: The way to each proxy.
    """

    def __init__(
        self,
        check_server: Callable[[], None],
        check_lease: Callable[[], None],
        admission: Admission,
        owner: OwnerWatch,
        proxies: ExternalProxies,
    ) -> None:
        self._check_server = check_server
        self._check_lease = check_lease
        self._admission = admission
        self._owner = owner
        self._proxies = proxies

    def why_not(self, touch: Touch, asked_for: Collection[str]) -> str:
        """Why a fault cannot, or must not, be injected into this cluster; "" if it can."""
        return self._admission.why_not(touch, asked_for)

    def admit(self, touch: Touch, asked_for: Collection[str], *, heals: bool = False) -> None:
        """Lets a fault pass, or refuses it.

        Raises:
            Unsupported: It cannot, or must not, be injected into this cluster.
            SafetyError: The kubeconfig leads to another cluster than at the beginning, or another run has this one.
        """
        self._check_server()
        if not heals:
            self._check_lease()
        self._admission.admit(touch, asked_for)

    def owner_change(self) -> str:
        """What its owner has done to it since the connection, in words; "" if nothing.

        Raises:
            ObservationError: It cannot be looked at.
        """
        return self._owner.change()

    def who_answers(self, proxy: Component, messages: Sequence[Message] = ()) -> frozenset[str]:
        """The ids of the replicas that answer by one proxy alone, as far as they are known."""
        return self._proxies.who_answers(proxy, messages)


def _sight(to: Connected, grants: Grants) -> Sight:
    """How it is looked at, as far as this user may."""
    may_run = not set(rights.RUN) & set(grants.lacking) and not grants.shared_processes
    logs = LogAccess(output=rights.LOGS not in grants.lacking, files=may_run, operator_namespace=to.operator_namespace)
    pods = None if rights.WATCH in grants.lacking else PodWatch(to.api)
    return Sight(pods, ProcessWatch(to.api) if may_run else None, logs)


def _refuse_config(config: Mapping[str, Json]) -> None:
    del config
    raise Unsupported("the plugin does not change the Serve config of an external RayService")


def _mode_at(found: FoundRayService) -> Callable[[Sequence[Mapping[str, Json]]], RedisMode]:
    """What tells from the pods behind the address of Redis, and from its port, what they are."""
    port = found.redis.rpartition(":")[2]
    return lambda pods: pods_mode(pods, int(port) if port.isdigit() else REDIS_PORT) if found.redis else ""


def _redis_items(api: KubeApi, address: str) -> Sequence[Mapping[str, Json]]:
    """The pods behind the Service that the RayService names as its Redis."""
    host = address.partition(":")[0]
    service, _, rest = host.partition(".")
    namespace = rest.partition(".")[0] or api.namespace
    if not service:
        return ()
    try:
        item = api.objects.service(service, namespace)
        selector = mapped(mapped(item.get("spec")).get("selector"))
        wanted = ",".join(f"{key}={value}" for key, value in selector.items())
        return api.raw_pods(wanted, namespace=namespace) if wanted else ()
    except (CommandFailed, ObservationError):
        return ()  # somewhere else, or not for us to see
