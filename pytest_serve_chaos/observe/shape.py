"""What redundancy means: the shape that a cluster had in steady state, and what a later topology lacks of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from pytest_serve_chaos.analysis.words import all_of
from pytest_serve_chaos.cluster.proxy_location import EVERY_NODE
from pytest_serve_chaos.cluster.rest import ServeStatus, autoscaled
from pytest_serve_chaos.events import WORKERS
from pytest_serve_chaos.model import HEAD, NOT_READY, Topology
from pytest_serve_chaos.observe.listing import listed_as, not_listed, running
from pytest_serve_chaos.observe.observer import Report


@dataclass(frozen=True, slots=True)
class Shape:
    """How many of what, and where.

    Attributes:
        nodes: Names of the nodes that are up.
        replicas: ``app#Deployment`` -> how many.
        placement: ``app#Deployment`` -> replicas per node, most first; which worker has which number does not matter.
        proxies: Names of the nodes that have a proxy.
        redis: Whether there is a Redis.
        autoscaled: ``app#Deployment`` -> its least and its most replicas, of those that Serve scales. Of these
            `replicas` and `placement` are what they happened to be.
        workers: The least and the most workers where Ray's autoscaler scales them, so that `nodes` are those that
            happened to be up; None where their number is fixed.
        proxy_location: Where Serve has proxies, in its own word; "" where it does not say.
    """

    nodes: frozenset[str]
    replicas: Mapping[str, int]
    placement: Mapping[str, tuple[int, ...]]
    proxies: frozenset[str]
    redis: bool
    autoscaled: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    workers: tuple[int, int] | None = None
    proxy_location: str = ""

    def with_placement_of(self, topology: Topology) -> Shape:
        """The same, but for the deployments that Serve scales: where they are in that topology."""
        now = shape_of(topology).placement
        scaled = {name: placed for name, placed in now.items() if name in self.autoscaled}
        return replace(self, placement={**self.placement, **scaled})


def shape_of(topology: Topology, report: Report | None = None, *, workers: tuple[int, int] | None = None) -> Shape:
    """The shape of a topology.

    Args:
        topology: Who is alive.
        report: Says which deployments are autoscaled, and where proxies are; None: that is not needed.
        workers: The least and the most workers where Ray's autoscaler scales them.
    """
    serve = None if report is None else report.serve
    replicas = topology.of("replica")
    names = {c.deployment or "" for c in replicas}
    placement = {
        name: tuple(sorted(Counter(c.node for c in replicas if c.deployment == name).values(), reverse=True))
        for name in names
    }
    return Shape(
        nodes=frozenset(c.node for c in topology.components if c.role in ("head", "worker")),
        replicas={name: sum(counts) for name, counts in placement.items()},
        placement=placement,
        proxies=frozenset(c.node for c in topology.of("proxy")),
        redis=bool(topology.of("redis")),
        autoscaled={} if serve is None else autoscaled(serve),
        workers=workers,
        proxy_location="" if serve is None else serve.proxy_location,
    )


def proxy_nodes(topology: Topology, wanted: Shape) -> frozenset[str]:
    """The names of the nodes that must have a proxy, as the Serve config says (`proxy_location`).

    With ``EveryNode`` these are the nodes with replicas, and the head if it had one. With ``HeadOnly`` it is the head.
    Where Serve does not say, only the head needs one if only the head had one.
    """
    head = {HEAD} & wanted.proxies
    everywhere = wanted.proxy_location == EVERY_NODE or (not wanted.proxy_location and bool(wanted.proxies - {HEAD}))
    with_replicas = {c.node for c in topology.of("replica")}
    return frozenset((with_replicas if everywhere else with_replicas & head) | head)


def lacks(topology: Topology, report: Report, wanted: Shape) -> list[str]:
    """What of the redundancy of `wanted` is not there, in words; empty when all of it is.

    Who is alive is taken from processes or pods, and that they belong to the cluster from the GCS: a raylet that is up
    but that the GCS calls DEAD is a zombie. Serve must call them RUNNING in addition, since a replica that is still
    starting has a process too. Of an autoscaled deployment there must be as many as Serve wants now, within its range.
    """
    now = shape_of(topology)
    missing = [*_missing_nodes(topology, report, wanted, now), *_not_ready(topology, wanted)]
    needed = _needed(report.serve, wanted)
    missing += [f"{name}: {now.replicas.get(name, 0)} of {n} replicas" for name, n in needed.items()
                if now.replicas.get(name, 0) < n]  # fmt: skip
    missing += [f"no proxy on {name}" for name in sorted(proxy_nodes(topology, wanted) - now.proxies)]
    missing += [] if len(topology.of("controller")) == 1 else [f"{len(topology.of('controller'))} controllers"]
    missing += [] if len(topology.of("gcs")) <= 1 else ["two GCS"]
    missing += [] if now.redis or not wanted.redis else ["no Redis"]
    return missing + _not_known_to_ray(topology, report, wanted)


def lacking(topology: Topology, report: Report, wanted: Shape) -> dict[str, int]:
    """How many fewer replicas of each deployment there are than there must be, and how many fewer workers."""
    now = shape_of(topology)
    needed = _needed(report.serve, wanted)
    fewer = {name: n - now.replicas.get(name, 0) for name, n in needed.items()}
    fewer[WORKERS] = _workers_needed(report, wanted) - len(now.nodes - {HEAD})
    return {name: n for name, n in fewer.items() if n > 0}


def _missing_nodes(topology: Topology, report: Report, wanted: Shape, now: Shape) -> list[str]:
    """The nodes that are not up. Of workers that are autoscaled there must be as many as Ray wants now."""
    if wanted.workers is None:
        return [_down(name, topology) for name in sorted(wanted.nodes - now.nodes)]
    missing = [_down(name, topology) for name in sorted({HEAD} & wanted.nodes - now.nodes)]
    there, needed = len(now.nodes - {HEAD}), _workers_needed(report, wanted)
    if there >= needed:
        return missing
    down = [_down(name, topology) for name in sorted(topology.down) if name != HEAD]
    return [*missing, "; ".join([f"{there} of {needed} workers", *down])]


def _workers_needed(report: Report, wanted: Shape) -> int:
    """How many workers there must be now."""
    if wanted.workers is None:
        return len(wanted.nodes - {HEAD})
    least, most = wanted.workers
    return max(least, min(least if report.workers is None else report.workers, most))


def _not_ready(topology: Topology, wanted: Shape) -> list[str]:
    """The nodes whose pod runs and is not Ready, so that Kubernetes sends no requests there.

    KubeRay's readiness probe asks the proxy, so a worker that needs no proxy is never Ready, and lacks nothing.
    """
    must = proxy_nodes(topology, wanted) | {HEAD}
    nodes = [c for c in topology.components if c.role in ("head", "worker") and c.state == NOT_READY]
    return [f"the pod of {c.node} runs and is not Ready" for c in nodes if c.node in must]


def _down(name: str, topology: Topology) -> str:
    why = topology.down.get(name, "")
    return f"node {name} is down" + (f": {why}" if why else "")


def imbalance(topology: Topology, wanted: Shape) -> list[str]:
    """Where replicas are placed otherwise than in `wanted`: Serve does not rebalance after a node came back.

    Where Serve places the replicas of an autoscaled deployment changes with their number, and is not compared. Nor is
    that of any where the nodes themselves come and go.
    """
    now = shape_of(topology)
    if wanted.workers is not None:
        return []
    return [
        f"{name}: {'/'.join(map(str, now.placement.get(name, ())))} replicas per node instead of"
        f" {'/'.join(map(str, placement))}"
        for name, placement in wanted.placement.items()
        if now.placement.get(name, ()) != placement and name not in wanted.autoscaled
    ]


def concentrated(topology: Topology, wanted: Shape) -> list[str]:
    """Which deployments were on several nodes and have all their replicas on one now, in words."""
    now = shape_of(topology)
    found = []
    for name, before in sorted(wanted.placement.items()):
        count = now.replicas.get(name, 0)
        if len(before) < 2 or len(now.placement.get(name, ())) != 1:
            continue
        (node,) = {c.node for c in topology.of("replica", deployment=name)}
        all_of_them = f"{all_of(count, 'replica')} {'are' if count > 1 else 'is'}"
        loses = "all of them" if count > 1 else "it"
        placed = "/".join(map(str, before))
        found.append(f"{name}: {all_of_them} on {node}, before {placed}: losing that node now loses {loses}")
    return found


def surplus(topology: Topology, report: Report, wanted: Shape) -> list[str]:
    """What is there that should not be: leaks and zombies, by the guide's `ray summary actors`.

    An autoscaled deployment may have any number of replicas up to its most, but no replica that Serve does not list.
    """
    found = [text for name in shape_of(topology).replicas for text in _too_many(name, topology, report, wanted)]
    nodes = Counter(c.node for c in topology.of("proxy"))
    found += [f"{n} proxies on {name}" for name, n in nodes.items() if n > 1]
    if report.actors is not None:
        there = {(c.actor_id) for c in topology.components if c.actor_id}
        zombies = [
            a for a in report.actors if a.state == "ALIVE" and a.actor_id not in there and "Canary" not in a.class_name
        ]
        found += [f"the GCS says that {a.class_name} {a.actor_id[:8]} is ALIVE, but it is not there" for a in zombies]
    if report.nodes is not None:
        heads = [row for row in report.nodes.values() if row.is_head and row.state == "ALIVE"]
        found += [f"{len(heads)} heads are ALIVE"] if len(heads) > 1 else []
    return found


def _needed(serve: ServeStatus | None, wanted: Shape) -> dict[str, int]:
    """``app#Deployment`` -> how many replicas there must be now."""
    targets = {} if serve is None else serve.targets
    scaled = {
        name: max(least, min(targets.get(name, least), most)) for name, (least, most) in wanted.autoscaled.items()
    }
    return {**wanted.replicas, **scaled}


def _too_many(name: str, topology: Topology, report: Report, wanted: Shape) -> list[str]:
    """What of a deployment's replicas should not be there, in words."""
    living = topology.of("replica", deployment=name)
    serve = report.serve
    if name in wanted.autoscaled:
        _, most = wanted.autoscaled[name]
        staying = len(living) - len(listed_as(topology, report, name, "STOPPING"))
        found = [f"{name}: {staying} replicas, and its max_replicas is {most}"] if staying > most else []
        leaked = [c for c in not_listed(topology, report, name) if c.identity in report.seen] if serve else []
        return found + [f"{c.name} (PID {c.pid}) is there, but Serve does not list it" for c in leaked]
    allowed = wanted.replicas.get(name, 0)
    # Where Serve does not say whether it scales the deployment, it wants those that it calls RUNNING.
    may_scale = allowed > 0 and serve is not None and not serve.options.get(name)
    wants_all = may_scale and not not_listed(topology, report, name, states=("RUNNING",))
    return [] if len(living) <= allowed or wants_all else [f"{name}: {len(living)} replicas instead of {allowed}"]


def _not_known_to_ray(topology: Topology, report: Report, wanted: Shape) -> list[str]:
    if report.nodes is None or report.actors is None:
        return ["the state API does not answer"]
    alive = [row for row in report.nodes.values() if row.state == "ALIVE"]
    nodes = len({HEAD} & wanted.nodes) + _workers_needed(report, wanted)
    missing = [] if len(alive) >= nodes else [f"{len(alive)} of {nodes} nodes ALIVE in the GCS"]
    if report.serve is None:
        return [*missing, "Serve's REST does not answer"]
    there = running(topology, report)
    missing += [
        f"{name}: {there[name]} of {n} replicas RUNNING"
        for name, n in _needed(report.serve, wanted).items()
        if there[name] < n
    ]
    healthy = sum(state == "HEALTHY" for state in report.serve.proxies.values())
    missing += [] if healthy >= 1 else ["no proxy is HEALTHY"]
    return missing
