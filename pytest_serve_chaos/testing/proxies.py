"""What the proxies of a fake cluster answer to clients."""

from __future__ import annotations

import itertools
import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace

from pytest_serve_chaos.cluster import serve_config
from pytest_serve_chaos.testing.parts import Part
from pytest_serve_chaos.testing.plan import DEPLOYMENT
from pytest_serve_chaos.testing.server import Reply
from pytest_serve_chaos.testing.world import World


class FakeProxies:
    """The proxies of a fake cluster, and the apps behind them. A subclass may answer otherwise.

    Args:
        world: What lives in the cluster.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.behaviour = world.behaviour
        self._turns: defaultdict[str, Iterator[int]] = defaultdict(itertools.count)

    def alive(self) -> dict[int, bool]:
        """PID of each proxy that lives -> whether it is frozen."""
        self.world.tick()
        with self.world.lock:
            return {part.pid: part.frozen for part in self.world.parts.of("proxy")}

    def is_retired(self, pid: int) -> bool:
        """Whether the proxy with that PID gets no more connections, and still answers on those that it has."""
        with self.world.lock:
            return any(part.pid == pid for part in self.world.retired)

    def wait(self, path: str) -> float:
        """Seconds that a client waits for the answer to a path; infinity: for ever."""
        return 0.0 if path == "/-/routes" else self.behaviour.answers_after

    def refuse(self, method: str, path: str) -> Reply | None:
        """What a client gets who asks with a method that the apps do not take."""
        wrong = self.behaviour.takes not in ("", method) and path != "/-/routes" and serve_config.CANARY not in path
        return Reply(500, "Internal Server Error") if wrong else None

    def serve(self, pid: int, path: str) -> Reply:
        """What a client gets from the proxy with that PID.

        In an outage a client gets an error, where somebody who asks one proxy alone gets an answer.
        """
        if not self.world.takes_request():
            return Reply(503, "unavailable")
        reply = self.answer(pid, path)
        return replace(reply, headers=(*reply.headers, ("connection", "close"))) if self.is_retired(pid) else reply

    def answer(self, pid: int, path: str) -> Reply:
        """What the proxy with that PID answers to a path."""
        with self.world.lock:
            plan, behaviour, struck = self.world.plan, self.behaviour, self.world.struck is not None
            proxies = (*self.world.parts.of("proxy"), *self.world.retired)
            proxy = next((part for part in proxies if part.pid == pid), None)
            if proxy is None:
                return Reply(503, "unavailable")
            if path == "/-/routes":
                return Reply(200, json.dumps({route: route for route in sorted(self._routes_of(proxy))}))
            app = self._app_at(path.partition("?")[0])
            if app is not None and serve_config.CANARY in app:  # it has no part of its own in this world
                known = 1 if proxy.slot.node == behaviour.outdated else plan.canaries()[app]
                return Reply(200, f"{app}#Canary#{next(self._turns[app]) % known}")
            deployment = f"{app}#{DEPLOYMENT}"
            mine = [p for p in self.world.parts.of("replica") if p.slot.deployment == deployment]
            replicas = [p for p in mine if not p.frozen and not p.child_frozen]
        if not replicas:
            return Reply(503 if app else 404, "nobody")
        replicas = replicas[1:] if struck and behaviour.forgets else replicas
        part = replicas[next(self._turns[deployment]) % len(replicas)]
        headers = () if behaviour.anonymous else (("x-serve-chaos-replica", part.name),)
        if not part.child and behaviour.engine != "unused":
            return Reply(500, "the engine is gone", headers)
        if part.bad == "answers":
            return Reply(500, "Internal Server Error", headers)
        return Reply(200, "nonsense" if struck and behaviour.garbles else str(part.pid), headers)

    def _routes_of(self, proxy: Part) -> frozenset[str]:
        return frozenset(self.world.plan.routes()) if proxy.stale_routes is None else proxy.stale_routes

    def _app_at(self, path: str) -> str | None:
        routes = self.world.plan.routes()
        found = routes.get(path)
        below = self.behaviour.below
        if not below or (found is not None and serve_config.CANARY in found):
            return found
        return next((app for route, app in routes.items() if path == route.rstrip("/") + below), None)
