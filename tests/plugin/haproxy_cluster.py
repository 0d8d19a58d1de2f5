"""A fake cluster in which HAProxy takes the requests on each node."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from pytest_serve_chaos.cluster.base import ClusterSpec
from pytest_serve_chaos.cluster.capabilities import SHOWS_HAPROXY, SIGNALS_PROCESSES, Offer
from pytest_serve_chaos.cluster.haproxy import Generation, Routes, server_name
from pytest_serve_chaos.cluster.rest import HAPROXY_MANAGER, ActorRow
from pytest_serve_chaos.errors import NoSuchTarget
from pytest_serve_chaos.model import MANAGER_FROZEN, ClusterDescription, Component, Identity
from pytest_serve_chaos.testing import FakeBehaviour, FakeCluster
from pytest_serve_chaos.testing.dashboard import FakeDashboard
from pytest_serve_chaos.testing.world import World


@dataclass
class HAProxyOnEachNode:
    """Implements `ShowsHAProxy` and `SignalsProcesses`: the proxies of the world are managers, each with a HAProxy.

    Attributes:
        world: What lives in the cluster.
        stale: The node whose HAProxy keeps all replicas that it ever had, once something was broken.
        lingers: Whether a HAProxy that was told to stop is there, once something was broken.
        reloads: How often each HAProxy was reloaded.
        frozen_managers: The managers that are stopped.
        signals: What was sent to whom: the part, and the signal.
    """

    world: World
    stale: str = ""
    lingers: bool = False
    reloads: int = 0
    frozen_managers: set[Identity] = field(default_factory=set)
    signals: list[tuple[str, int]] = field(default_factory=list)
    known: set[str] = field(default_factory=set)

    def serving(self, manager: Identity) -> Identity:
        boot, pid, _ = manager.parts
        return Identity("process", (boot, f"9{pid}", str(self.reloads)))

    def generations(self) -> Sequence[Generation]:
        found = []
        for part in self.world.parts.of("proxy"):
            process = self.serving(part.identity)
            found.append(Generation(part.slot.node, process, process.pid or 0, part.identity, True, "/tmp/h"))
        if self.lingers and self.world.struck is not None:
            found.append(replace(found[0], process=Identity("process", ("fake", "77", "1")), pid=77, serves=False))
        return found

    def routes(self, generation: Generation) -> Routes:
        now = {server_name(part.name) for part in self.world.parts.of("replica")}
        self.known |= now
        names = self.known if generation.node == self.stale else now
        return Routes({"http-app": frozenset(names)}, 0.0)

    def signal_process(self, identity: Identity, number: int, *, lasts: float | None = None) -> None:
        managers = {part.identity for part in self.world.parts.of("proxy")}
        whole = {self.serving(manager): manager for manager in managers}
        if identity in managers and number in (signal.SIGSTOP, signal.SIGCONT):
            self.signals.append(("manager", number))
            if not self.world.behaviour.harmless:
                self.world.strike()
                (self.frozen_managers.add if number == signal.SIGSTOP else self.frozen_managers.discard)(identity)
            return
        if identity in managers:
            self.signals.append(("manager", number))
        elif identity in whole:
            self.signals.append(("haproxy", number))
        elif identity.parts[1].startswith("9"):
            raise NoSuchTarget(f"{identity} is gone")
        if not self.world.behaviour.harmless:
            self.world.signal(whole.get(identity, identity), number)


class HAProxyActors(FakeDashboard):
    """A dashboard whose proxies are managers of HAProxy."""

    def actors(self, *, class_name: str | None = None) -> tuple[ActorRow, ...]:
        rows = super().actors(class_name=class_name)
        return tuple(
            replace(row, class_name=HAPROXY_MANAGER) if row.class_name == "ProxyActor" else row for row in rows
        )


class HAProxyCluster(FakeCluster):
    """All is well with its HAProxies."""

    def __init__(self, spec: ClusterSpec, behaviour: FakeBehaviour | None = None) -> None:
        super().__init__(replace(spec, ingress="haproxy"), behaviour)
        self._dashboard = HAProxyActors(self.world)
        self.haproxy = HAProxyOnEachNode(self.world)
        self.haproxy.known |= {server_name(part.name) for part in self.world.parts.of("replica")}

    @property
    def description(self) -> ClusterDescription:
        return replace(super().description, ingress="haproxy")

    def components(self) -> tuple[Component, ...]:
        return tuple(self._with_haproxy(c) if c.role == "proxy" else c for c in super().components())

    def _with_haproxy(self, proxy: Component) -> Component:
        state = MANAGER_FROZEN if proxy.identity in self.haproxy.frozen_managers else proxy.state
        return replace(proxy, state=state, serving=self.haproxy.serving(proxy.identity))

    def offers(self) -> tuple[Offer, ...]:
        return (*super().offers(), SHOWS_HAPROXY.by(self.haproxy), SIGNALS_PROCESSES.by(self.haproxy))


class WithoutHAProxy(FakeCluster):
    """A Ray that does not know HAProxy, and runs its own proxies."""

    def __init__(self, spec: ClusterSpec, behaviour: FakeBehaviour | None = None) -> None:
        super().__init__(replace(spec, ingress="haproxy"), behaviour)


class StaleHAProxy(HAProxyCluster):
    """The HAProxy of one node keeps a replica that was killed."""

    def __init__(self, spec: ClusterSpec, behaviour: FakeBehaviour | None = None) -> None:
        super().__init__(spec, behaviour)
        self.haproxy.stale = "worker-2"


class LingeringHAProxy(HAProxyCluster):
    """A HAProxy that was told to stop does not."""

    def __init__(self, spec: ClusterSpec, behaviour: FakeBehaviour | None = None) -> None:
        super().__init__(spec, behaviour)
        self.haproxy.lingers = True


class Reloading(HAProxyCluster):
    """Each look at the cluster finds another generation of each HAProxy."""

    def components(self) -> tuple[Component, ...]:
        self.haproxy.reloads += 1
        return super().components()
