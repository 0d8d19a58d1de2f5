"""Warnings, before anything is broken, of what in a cluster's configuration will turn a fault into an outage."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from pytest_serve_chaos.analysis.words import all_of, limit, listing, number
from pytest_serve_chaos.model import HEAD, ClusterDescription, ConfigWarning, Loss, Topology

RAYSERVICE_FILE = "rayservice file"
"""What the details of a description call the file that the RayService comes from, where it comes from one."""

LOST_WITH_HEAD = "gcs storage"
"""What they call the storage of the GCS that goes with the head's pod, where there is one."""

DRAIN_TIMEOUT = "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"
GRACE_PERIOD = "`terminationGracePeriodSeconds` of the workers"
RECONNECT_TIMEOUT = "RAY_gcs_rpc_server_reconnect_timeout_s"
STOP_HOOK = "`ray stop` in the `preStop` hook of the workers"


@dataclass(frozen=True, slots=True)
class Room:
    """What the limits of a namespace leave for the pods that a recovery needs.

    Attributes:
        refused: Ray node -> why Kubernetes refuses the pod that would replace its pod; the node is "" for all of them.
        second: What a second RayCluster, which an upgrade makes, has no room for; "" if nothing is known of that.
    """

    refused: Mapping[str, str] = field(default_factory=dict)
    second: str = ""


@dataclass(frozen=True, slots=True)
class Setup:
    """What a backend knows of how its cluster is set up. None, or nothing, stands for what it does not know.

    Attributes:
        redis_persists: Whether Redis has its data again when it is started again.
        redis_machine: The machine that Redis is on, where machines can be lost one by one.
        machines: Ray node (``head``, ``worker-1``) -> machine, likewise.
        drain_limits: What ends the drain of a node that is asked to stop, each with its seconds (0: at once):
            `DRAIN_TIMEOUT`, `GRACE_PERIOD`, `STOP_HOOK`.
        redis_mode: What the address that Ray takes for Redis leads to: ``sentinel``, ``cluster``, ``standalone`` or "".
        restarted: Ray nodes whose container was started again in its pod so recently that its next start is put off.
        reconnect: Seconds after which a worker that cannot reach the GCS ends (`RECONNECT_TIMEOUT`).
        room: What ResourceQuotas and LimitRanges leave.
    """

    redis_persists: bool | None = None
    redis_machine: str | None = None
    machines: Mapping[str, str] = field(default_factory=dict)
    drain_limits: Mapping[str, float] = field(default_factory=dict)
    restarted: tuple[str, ...] = ()
    redis_mode: str = ""
    reconnect: float | None = None
    room: Room = field(default_factory=Room)

    @property
    def drain(self) -> float | None:
        """Seconds for which a node that is asked to stop may drain; 0: it ends at once. None: it is not known."""
        return min(self.drain_limits.values(), default=None)


@dataclass(frozen=True, slots=True)
class Deployment:
    """What Serve says of a deployment.

    Attributes:
        replicas: How many it wants.
        limited: Whether `max_replicas_per_node` is set; True also where that is not known.
        shutdown: `graceful_shutdown_timeout_s`.
        most: Its `max_replicas`, where Serve scales it; 0 where it does not.
    """

    replicas: int
    limited: bool = True
    shutdown: float = 0.0
    most: int = 0


@dataclass(frozen=True, slots=True)
class Configuration:
    """What is known of a cluster before a fault.

    Attributes:
        description: The cluster.
        setup: What its backend knows of it.
        topology: Who is alive, in steady state.
        deployments: ``app#Deployment`` -> what Serve says of it.
    """

    description: ClusterDescription
    setup: Setup
    topology: Topology
    deployments: Mapping[str, Deployment]


class Concerned(Protocol):
    """A fault, as far as the configuration concerns it."""

    @property
    def name(self) -> str:
        """The marker's name."""
        ...

    @property
    def loses(self) -> tuple[Loss, ...]:
        """What it takes away."""
        ...

    @property
    def warnings(self) -> Callable[[Configuration], Iterable[ConfigWarning]] | None:
        """What it has to say itself about a configuration."""
        ...


def check(configuration: Configuration, faults: Iterable[Concerned]) -> tuple[ConfigWarning, ...]:
    """What should be fixed, or be expected, before a fault is injected; only what is known to be so.

    Args:
        configuration: What is known of the cluster.
        faults: All faults that may be injected.
    """
    known = tuple(faults)
    own = [
        replace(warning, faults=warning.faults or (fault.name,))
        for fault in known
        if fault.warnings is not None
        for warning in fault.warnings(configuration)
    ]
    return (*(_for_faults(warning, known) for warning in _common(configuration)), *own)


def _for_faults(warning: ConfigWarning, faults: Iterable[Concerned]) -> ConfigWarning:
    return replace(warning, faults=tuple(f.name for f in faults if not set(warning.losses).isdisjoint(f.loses)))


def _common(configuration: Configuration) -> tuple[ConfigWarning, ...]:
    """The warnings that do not depend on which faults there are."""
    description, setup = configuration.description, configuration.setup
    topology, deployments = configuration.topology, configuration.deployments
    return (
        *_fault_tolerance(description),
        *_redis(description, setup),
        *_on_the_head(topology),
        *_one_proxy(topology),
        *_replicas(topology, deployments),
        *_on_one_machine(topology, setup, deployments),
        *_drain(setup, deployments),
        *_restarted(description, setup),
        *_no_replacement(setup.room),
    )


def _fault_tolerance(description: ClusterDescription) -> Iterator[ConfigWarning]:
    if description.gcs == "none":
        lost = description.details.get(LOST_WITH_HEAD)
        yield ConfigWarning(
            "no_fault_tolerance",
            "no GCS fault tolerance" + (f": {lost} goes with the head's pod" if lost else ""),
            "losing the head restarts every worker",
            "a persistent volume for that directory"
            if lost
            else "--serve-chaos-gcs=redis"
            if is_made_by_options(description)
            else "`gcsFaultToleranceOptions` in the RayService",
            losses=("head",),
        )


def _redis(description: ClusterDescription, setup: Setup) -> Iterator[ConfigWarning]:
    if not _has_redis(description):
        return
    if setup.redis_mode == "sentinel":
        yield ConfigWarning(
            "redis_is_sentinel",
            "what Ray has as its Redis is a Sentinel",
            "Ray asks it once for the Redis behind it, which the plugin neither looks at nor breaks",
            "",
            losses=("redis", "head"),
        )
    if setup.redis_mode == "cluster":
        yield ConfigWarning(
            "redis_is_cluster",
            "Redis is a Redis Cluster",
            "Ray takes one with a single shard only, and the plugin does not follow a new master",
            "",
            losses=("redis", "head"),
        )
    if setup.redis_persists is False:
        yield ConfigWarning(
            "redis_forgets",
            "Redis keeps nothing on disk",
            "losing it restarts the head and every worker",
            "" if description.backend == "local" else "a volume for Redis, and `appendonly yes`",
            losses=("redis",),
        )
    for node, machine in setup.machines.items():
        if machine == setup.redis_machine:
            costs = "takes the GCS along" if setup.redis_persists else "restarts the head and every worker"
            yield ConfigWarning(
                "redis_on_ray_node",
                f"Redis is on {machine}, the node of {node}",
                f"losing that node {costs}",
                "a nodeSelector or an anti-affinity for Redis' pod",
                node=node,
                losses=("Ray node",),
            )


def _on_the_head(topology: Topology) -> Iterator[ConfigWarning]:
    replicas = topology.of("replica", on=HEAD)
    if replicas:
        names = sorted({c.deployment or "" for c in replicas})
        yield ConfigWarning(
            "replicas_on_head",
            f"{number(len(replicas), 'replica')} of {listing(names)} on the head",
            "they are lost with it",
            '`num-cpus: "0"` for the head, and some `num_cpus` for each replica',
            losses=("head",),
        )


def _one_proxy(topology: Topology) -> Iterator[ConfigWarning]:
    if {c.node for c in topology.of("proxy")} == {HEAD} and topology.of("replica", on="workers"):
        yield ConfigWarning(
            "proxy_on_head_only",
            "only the head has a proxy",
            "nothing answers while it is away",
            "`proxy_location: EveryNode` in the Serve config",
            losses=("head", "proxy"),
        )


def _replicas(topology: Topology, deployments: Mapping[str, Deployment]) -> Iterator[ConfigWarning]:
    nodes = len(topology.of("worker"))
    for name, deployment in sorted(deployments.items()):
        placed = Counter(c.node for c in topology.of("replica", deployment=name))
        if deployment.replicas == 1:
            yield ConfigWarning(
                "one_replica",
                f"{name} has one replica",
                "nothing answers until a new one has started",
                "`num_replicas` (or `min_replicas`) 2 or more, and `max_replicas_per_node`",
                losses=("replica",),
            )
        elif len(placed) == 1:
            (node,) = placed
            yield ConfigWarning(
                "all_on_one_node",
                f"{all_of(sum(placed.values()), 'replica')} of {name} on {node}",
                "losing that node leaves none",
                "`max_replicas_per_node` less than the number of replicas"
                + ("" if nodes > 1 else ", and a second worker"),
                node=node,
                losses=("worker", "head") if node == HEAD else ("worker",),
            )
        elif deployment.replicas > 1 and not deployment.limited and nodes > 1:
            yield ConfigWarning(
                "no_limit_per_node",
                f"{name} has no `max_replicas_per_node`",
                "after a recovery all its replicas may be on one node, and the next loss leaves none",
                f"`max_replicas_per_node: {-(-max(deployment.replicas, deployment.most) // nodes)}`",
                losses=("worker",),
            )


def _on_one_machine(topology: Topology, setup: Setup, deployments: Mapping[str, Deployment]) -> Iterator[ConfigWarning]:
    """Ray nodes that share a machine are lost together, which no limit for each Ray node helps against."""
    for name in sorted(deployments):
        nodes = {c.node for c in topology.of("replica", deployment=name)}
        machines = {setup.machines.get(node, "") for node in nodes}
        if len(nodes) > 1 and len(machines) == 1 and "" not in machines:
            (machine,) = machines
            yield ConfigWarning(
                "all_on_one_machine",
                f"all replicas of {name} on {machine}, the node of {listing(sorted(nodes))}",
                "losing that node leaves none",
                "an anti-affinity, or a topology spread constraint, for the pods of the workers",
                losses=("machine",),
            )


def _drain(setup: Setup, deployments: Mapping[str, Deployment]) -> Iterator[ConfigWarning]:
    if setup.drain is None:
        return
    longest = max((d.shutdown for d in deployments.values()), default=0.0)
    if setup.drain <= longest:
        text = "a node that is asked to stop does not drain"
        if setup.drain > 0:
            text = (
                f"a node that is asked to stop drains for {limit(setup.drain)}, no longer than a replica takes to stop"
            )
        yield ConfigWarning(
            "no_drain",
            text,
            "its replicas go before new ones have started",
            _longer_drain(setup.drain_limits, longest),
            losses=("worker",),
        )


def _restarted(description: ClusterDescription, setup: Setup) -> Iterator[ConfigWarning]:
    """For faults after which a container restarts in its pod; the containers of a new pod start at once."""
    store: tuple[Loss, ...] = ("redis",) if _has_redis(description) else ()
    for node in setup.restarted:
        # The head ends with its GCS, and that without Redis; a worker only if the GCS then knows nothing of it.
        lost: tuple[Loss, ...] = store if setup.redis_persists is False else ()
        if node == HEAD:
            lost = ("head container", *store)
        if lost:
            yield ConfigWarning(
                "restarted",
                f"the container of {node} was started again in its pod in the last ten minutes",
                "the kubelet delays its next start, by 10 s and each time by twice as long, up to 5 min",
                "delete the pod before, or wait until ten minutes have passed without a restart",
                losses=lost,
            )


def _no_replacement(room: Room) -> Iterator[ConfigWarning]:
    for node, why in room.refused.items():
        yield ConfigWarning(
            "no_replacement",
            why,
            f"Kubernetes refuses the pod that would replace {f'that of {node}' if node else 'any of the Ray pods'}",
            "change that ResourceQuota, or LimitRange",
            node=node,
            losses=("Ray node",),
        )


def _longer_drain(limits: Mapping[str, float], longest: float) -> str:
    """What has to be changed, all of it: of two limits that are too short, the other alone would change nothing."""
    short = [name for name, seconds in limits.items() if seconds <= longest]
    settings = [name for name in short if name != STOP_HOOK]
    fixes = [f"no {STOP_HOOK}"] if STOP_HOOK in short else []
    if settings:
        fixes.append(f"{' and '.join(settings)} over {limit(longest)} and what a replica takes to start")
    return "; ".join(fixes)


def _has_redis(description: ClusterDescription) -> bool:
    return description.gcs not in ("none", "rocksdb")


def is_made_by_options(description: ClusterDescription) -> bool:
    """Whether it is made for the options; a RayService of the user's own says itself what it is."""
    return description.backend in ("local", "kind") and RAYSERVICE_FILE not in description.details
