"""HAProxy as Serve's ingress: which processes are one proxy, and which of them takes the requests now.

Serve's manager on each node starts HAProxy, and starts it again whenever its list of replicas changes: the new process
takes over the sockets and tells the one before to stop softly (``-sf PID``), which answers what it has and ends. So the
PID of HAProxy changes without a fault. A proxy is therefore its manager, for as long as that has a HAProxy which takes
requests; each HAProxy is a generation of it. One that dies without a successor leaves no proxy.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from pytest_serve_chaos.cluster.process_titles import Part, haproxy_directory, replaced_by
from pytest_serve_chaos.errors import ObservationError
from pytest_serve_chaos.model import MANAGER_FROZEN, Component, Identity


@dataclass(frozen=True, slots=True)
class Seen:
    """A process on a node.

    Attributes:
        node: The name of the node.
        identity: Which process it is.
        pid, parent: In the PID namespace of the node.
        started: Clock ticks since boot.
        part: What it is.
        frozen: Whether it is stopped.
        command: Its command line.
    """

    node: str
    identity: Identity
    pid: int
    parent: int
    started: int
    part: Part
    frozen: bool
    command: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Generation:
    """A HAProxy process.

    Attributes:
        node: The name of its node.
        process: Which process it is.
        pid: Its PID.
        proxy: The proxy to which it belongs, by its manager; None where that is gone.
        serves: Whether it takes new requests; else it has been told to stop, or has no manager.
        directory: Where its config and its admin socket are.
    """

    node: str
    process: Identity
    pid: int
    proxy: Identity | None
    serves: bool
    directory: str


@dataclass(frozen=True, slots=True)
class Routes:
    """Where a HAProxy sends requests.

    Attributes:
        servers: Name of a backend, one for each app -> the names of its servers: replicas, and Serve's own proxy.
        hard_stop_after: Seconds after which one that has to stop ends whatever it still does; None: never.
    """

    servers: Mapping[str, frozenset[str]]
    hard_stop_after: float | None


def no_answer(generation: Generation, error: Exception) -> ObservationError:
    """That a HAProxy gave no usable answer, and why."""
    return ObservationError(f"HAProxy on {generation.node} (PID {generation.pid}) does not answer: {error}")


def read_routes(state: str, config: str) -> Routes:
    """The routes of a HAProxy.

    Args:
        state: What it answers to ``show servers state``.
        config: Its config file.

    Raises:
        ObservationError: The answer is something else.
    """
    servers: dict[str, set[str]] = {}
    titles: list[str] = []
    for line in state.splitlines():
        if line.startswith("# "):
            titles = line[2:].split()
        elif titles and line.strip():
            row = dict(zip(titles, line.split(), strict=False))
            servers.setdefault(row.get("be_name", ""), set()).add(row.get("srv_name", ""))
    if not {"be_name", "srv_name"} <= set(titles):
        raise ObservationError("HAProxy does not say which servers it has", checked=[state[:200]])
    found = re.search(r"^\s*hard-stop-after (\d+)s\s*$", config, re.MULTILINE)
    return Routes({name: frozenset(own) for name, own in servers.items()}, float(found[1]) if found else None)


def server_name(replica: str) -> str:
    """What Serve calls a replica in HAProxy's config.

    Args:
        replica: ``app#Deployment#id``.
    """
    # HAProxyManager.get_safe_name of ray/serve/_private/haproxy.py.
    name = f"SERVE_REPLICA::{replica}".replace("#", "-").replace("/", ".")
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name)


class HAProxies:
    """Tells which processes are proxies, and remembers what can be seen only once. Safe to use from several threads.

    Args:
        expected: Whether HAProxy is known to be the ingress; else it is recognised by the first manager.
    """

    def __init__(self, *, expected: bool = False) -> None:
        self._lock = threading.Lock()
        self._used = expected
        self._stopping: set[Identity] = set()
        self._generations: tuple[Generation, ...] = ()

    @property
    def used(self) -> bool:
        """Whether HAProxy is the ingress. Serve's own proxy on the head only answers in its place then."""
        return self._used

    @property
    def generations(self) -> tuple[Generation, ...]:
        """The HAProxy processes that `proxies` got last."""
        return self._generations

    def proxies(self, processes: Iterable[Seen]) -> tuple[Component, ...]:
        """The proxies of all nodes.

        Args:
            processes: The managers and the HAProxies that run now.
        """
        seen = tuple(processes)
        managers = {(one.node, one.pid): one for one in seen if one.part == "manager"}
        children: dict[Identity, list[Seen]] = {one.identity: [] for one in managers.values()}
        orphans: list[Seen] = []
        for one in seen:
            if one.part == "haproxy":
                manager = managers.get((one.node, one.parent))
                (orphans if manager is None else children[manager.identity]).append(one)
        with self._lock:
            self._used = self._used or bool(managers)
            self._remember(tuple(children.values()))
            serving = {proxy: self._serving(own) for proxy, own in children.items()}
            found = [_generation(one, None, serves=False) for one in orphans]
            for proxy, own in children.items():
                found += [_generation(one, proxy, serves=one is serving[proxy]) for one in own]
            self._generations = tuple(found)
        pairs = ((manager, serving[manager.identity]) for manager in managers.values())
        return tuple(_proxy(manager, generation) for manager, generation in pairs if generation is not None)

    def _remember(self, families: Sequence[Sequence[Seen]]) -> None:
        """Who has been told to stop stays known when the process that told it is gone."""
        told = set()
        for own in families:
            for one in own:
                before = replaced_by(one.command)
                told |= {old.identity for old in own if old.pid in before and old.started <= one.started}
        there = {one.identity for own in families for one in own}
        self._stopping = (self._stopping | told) & there

    def _serving(self, own: Iterable[Seen]) -> Seen | None:
        candidates = [one for one in own if one.identity not in self._stopping]
        return max(candidates, key=lambda one: (one.started, one.pid), default=None)


def _generation(one: Seen, proxy: Identity | None, *, serves: bool) -> Generation:
    return Generation(one.node, one.identity, one.pid, proxy, serves, haproxy_directory(one.command))


def _proxy(manager: Seen, generation: Seen) -> Component:
    state = "frozen" if generation.frozen else MANAGER_FROZEN if manager.frozen else "running"
    return Component("proxy", manager.node, manager.identity, manager.pid, state=state, serving=generation.identity)
