"""What redundancy means: the shape that a cluster had in steady state, and what a later topology lacks of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from pytest_serve_chaos.model import HEAD, Topology
from pytest_serve_chaos.observe.observer import Report

_RUNNING = ("RUNNING",)


@dataclass(frozen=True, slots=True)
class Shape:
    """How many of what, and where.

    Attributes:
        nodes: Names of the nodes that are up.
        replicas: ``app#Deployment`` -> how many.
        placement: ``app#Deployment`` -> replicas per node, most first; which worker has which number does not matter.
        proxies: Names of the nodes that have a proxy.
        redis: Whether there is a Redis.
    """

    nodes: frozenset[str]
    replicas: Mapping[str, int]
    placement: Mapping[str, tuple[int, ...]]
    proxies: frozenset[str]
    redis: bool


def shape_of(topology: Topology) -> Shape:
    """The shape of a topology."""
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
    )


def lacks(topology: Topology, report: Report, wanted: Shape) -> list[str]:
    """What of the redundancy of `wanted` is not there, in words; empty when all of it is.

    Who is alive is taken from processes or pods, and that they belong to the cluster from the GCS: a raylet that is up
    but that the GCS calls DEAD is a zombie. Serve's RUNNING is asked for beside that, since a replica that is still
    starting has a process too.
    """
    now = shape_of(topology)
    missing = [_down(name, topology) for name in sorted(wanted.nodes - now.nodes)]
    missing += [f"{name}: {now.replicas.get(name, 0)} of {n} replicas" for name, n in wanted.replicas.items()
                if now.replicas.get(name, 0) < n]  # fmt: skip
    with_replicas = {c.node for c in topology.of("replica")} | ({HEAD} if HEAD in wanted.proxies else set())
    missing += [f"no proxy on {name}" for name in sorted(with_replicas - now.proxies)]
    missing += [] if len(topology.of("controller")) == 1 else [f"{len(topology.of('controller'))} controllers"]
    missing += [] if len(topology.of("gcs")) <= 1 else ["two GCS"]
    missing += [] if now.redis or not wanted.redis else ["no Redis"]
    return missing + _not_known_to_ray(report, wanted)


def _down(name: str, topology: Topology) -> str:
    why = topology.down.get(name, "")
    return f"node {name} is down" + (f": {why}" if why else "")


def imbalance(topology: Topology, wanted: Shape) -> list[str]:
    """Where replicas are placed otherwise than in `wanted`: Serve does not rebalance after a node came back."""
    now = shape_of(topology)
    return [
        f"{name}: {'/'.join(map(str, now.placement.get(name, ())))} replicas per node instead of"
        f" {'/'.join(map(str, placement))}"
        for name, placement in wanted.placement.items()
        if now.placement.get(name, ()) != placement
    ]


def surplus(topology: Topology, report: Report, wanted: Shape) -> list[str]:
    """What is there that should not be: leaks and zombies, by the guide's `ray summary actors`."""
    now = shape_of(topology)
    found = [f"{name}: {n} replicas instead of {wanted.replicas.get(name, 0)}" for name, n in now.replicas.items()
             if n > wanted.replicas.get(name, 0)]  # fmt: skip
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


def _not_known_to_ray(report: Report, wanted: Shape) -> list[str]:
    if report.nodes is None or report.actors is None:
        return ["the state API does not answer"]
    alive = [row for row in report.nodes.values() if row.state == "ALIVE"]
    missing = [] if len(alive) >= len(wanted.nodes) else [f"{len(alive)} of {len(wanted.nodes)} nodes ALIVE in the GCS"]
    if report.serve is None:
        return [*missing, "Serve's REST does not answer"]
    running = Counter(f"{r.app}#{r.deployment}" for r in report.serve.replicas if r.state in _RUNNING)
    missing += [
        f"{name}: {running[name]} of {n} replicas RUNNING" for name, n in wanted.replicas.items() if running[name] < n
    ]
    healthy = sum(state == "HEALTHY" for state in report.serve.proxies.values())
    missing += [] if healthy >= 1 else ["no proxy is HEALTHY"]
    return missing
