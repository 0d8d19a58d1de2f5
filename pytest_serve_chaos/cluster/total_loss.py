"""What must stay of a cluster that carries traffic: a healthy replica of each deployment, a proxy, a worker, a node."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

from pytest_serve_chaos.cluster.policy import Touch
from pytest_serve_chaos.model import HEAD, Component, Loss

ALLOW_TOTAL_LOSS = "allow_total_loss"
"""The keyword by which a test says that nothing need be left."""

CAN_BE_THE_LAST: frozenset[Loss] = frozenset(
    {"head", "head container", "worker", "Ray node", "machine", "replica", "proxy"}
)
"""What a fault can take away so that none is left."""


@dataclass(frozen=True, slots=True)
class Healthy:
    """What of a cluster is well now.

    Attributes:
        nodes: The names of the Ray nodes that run.
        replicas: ``app#Deployment`` -> its replicas that run, on such nodes.
        proxies: The proxies that take requests, on such nodes.
        machines: Ray node -> the machine under it, where a backend has machines.
    """

    nodes: frozenset[str]
    replicas: Mapping[str, Collection[Component]]
    proxies: Collection[Component] = ()
    machines: Mapping[str, str] = field(default_factory=dict)

    def along_with(self, nodes: Collection[str]) -> frozenset[str]:
        """These nodes, and all others on their machines."""
        lost = {self.machines[node] for node in nodes if node in self.machines}
        return frozenset({*nodes, *(node for node, machine in self.machines.items() if machine in lost)})


def with_a_way_out(reason: str) -> str:
    """Why a fault would leave nothing, and what a test says that wants that."""
    return f"{reason} ({ALLOW_TOTAL_LOSS}=True breaks it all the same)"


def leaves_none(touch: Touch, healthy: Healthy) -> str:
    """Why a fault must not hit its victims, because nothing healthy would be left; "" if it may."""
    return next(_reasons(touch, healthy), "") if touch.victims and not touch.allow_total_loss else ""


def lost_nodes(touch: Touch) -> frozenset[str]:
    """The Ray nodes that go with all that is on them."""
    if not {"head", "worker"}.intersection(touch.loses):
        return frozenset()
    return frozenset(victim.node for victim in touch.victims)


def closed_nodes(touch: Touch) -> frozenset[str]:
    """The Ray nodes whose proxies take no requests any more."""
    return lost_nodes(touch) | {victim.node for victim in touch.victims if victim.role == "proxy"}


def _reasons(touch: Touch, healthy: Healthy) -> Iterator[str]:
    lost = lost_nodes(touch)
    if "machine" in touch.loses:
        lost = healthy.along_with(lost)
    if lost and not healthy.nodes - lost:
        yield with_a_way_out(f"no Ray node but {_listing(lost)} runs, so losing it leaves none")
    if lost - {HEAD} and not healthy.nodes - {HEAD} - lost:
        yield with_a_way_out(f"no worker but {_listing(lost - {HEAD})} runs, so losing it leaves none")
    hit = {victim.deployment for victim in touch.victims if victim.role == "replica"}
    victims = {victim.identity for victim in touch.victims}
    for deployment in sorted({*healthy.replicas, *(name for name in hit if name)}):
        running = healthy.replicas.get(deployment, ())
        left = [one for one in running if one.node not in lost and one.identity not in victims]
        if not left and (running or deployment in hit):
            place = f" but what is on {_listing(lost)}" if lost else " but the one that is to be hit"
            yield with_a_way_out(f"no replica of {deployment}{place} runs, so losing it leaves none")
    yield from _of_proxies(touch, healthy, lost)


def _of_proxies(touch: Touch, healthy: Healthy, lost: frozenset[str]) -> Iterator[str]:
    if touch.new_controller and len(healthy.proxies) == 1:
        yield "one proxy runs, which may not hear a new controller (ray#63784), and without it nothing takes requests"
    hit = {victim.identity for victim in touch.victims if victim.role == "proxy"}
    left = [one for one in healthy.proxies if one.node not in lost and one.identity not in hit]
    if not left and (healthy.proxies or hit):
        place = f"what is on {_listing(lost)}" if lost else "the one that is to be hit"
        yield with_a_way_out(f"no proxy but {place} takes requests, so losing it leaves none")


def _listing(names: Collection[str]) -> str:
    return ", ".join(sorted(names))
