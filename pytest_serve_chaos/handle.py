"""The cluster as a test sees it: what it runs, what is alive in it, and updates of its Serve config."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from pytest_serve_chaos import clock
from pytest_serve_chaos.clock import NotYet, seconds
from pytest_serve_chaos.cluster import serve_config
from pytest_serve_chaos.cluster.app_updates import Target
from pytest_serve_chaos.cluster.base import Cluster, ClusterSpec
from pytest_serve_chaos.cluster.capabilities import HAS_REDIS, SHARES_REDIS, SHOWS_CONTROLLER_LOG
from pytest_serve_chaos.errors import ObservationError, WaitTimeout
from pytest_serve_chaos.faults.rig import Rig
from pytest_serve_chaos.model import ClusterDescription, Component, Json, Role, Topology
from pytest_serve_chaos.observe.observer import Report
from pytest_serve_chaos.observe.post_recovery import routes_in
from pytest_serve_chaos.observe.shape import shape_of


class ServeCluster:
    """The value of the fixture `serve_cluster`. What a test updates is put back when it ends."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig

    @property
    def backend(self) -> Cluster:
        """The cluster itself, with all that its backend can do."""
        return self._rig.cluster

    @property
    def spec(self) -> ClusterSpec:
        """What was asked for."""
        return self._rig.cluster.spec

    @property
    def description(self) -> ClusterDescription:
        """What is under test."""
        return self._rig.cluster.description

    @property
    def url(self) -> str:
        """Where the first app answers."""
        return self._rig.cluster.url

    def topology(self) -> Topology:
        """Who is alive now."""
        return self._rig.watcher.sample()

    def of(self, role: Role, *, on: str | None = None, deployment: str | None = None) -> tuple[Component, ...]:
        """The living components of a role; `on` is a node's name or ``workers``."""
        return self.topology().of(role, on=on, deployment=deployment)

    def imbalance(self) -> list[str]:
        """Where replicas are placed otherwise than when the test began, in words."""
        return self._rig.health.imbalance(self.topology())

    def missing(self) -> list[str]:
        """What is missing of the redundancy with which the test began, in words."""
        return self._rig.health.missing()

    def update(self, deployment: str, *, timeout: float | str = "90s", **options: Json) -> None:
        """Changes options of a deployment (``app#Deployment``), as an edit of the Serve config does, and waits for it.

        Until the test ends, the shape that this gives is the one that a recovery must reach again. An update that does
        not come true is taken back.

        Raises:
            CommandFailed: It was not taken, for example because there is no head.
            WaitTimeout: It does not run as wanted. On Kubernetes, which only writes the update down, this is how a
                missing head shows.
        """
        cluster = self._rig.cluster
        before = cluster.serve_config
        app, replicas = deployment.partition("#")[0], options.get("num_replicas")
        others = {name: value for name, value in options.items() if name != "num_replicas"}
        wanted = Target(app, {}, {deployment: others}, {deployment: replicas} if isinstance(replicas, int) else {})
        cluster.apply_serve_config(serve_config.with_deployment_options(before, deployment, options))
        try:
            _wait_deployed(self._rig, app, seconds(timeout), wanted)
        except WaitTimeout:
            cluster.apply_serve_config(before)
            raise

    def deploy(self, app: Mapping[str, Json], *, timeout: float | str = "90s") -> None:
        """Adds an app (an entry of ``applications`` in a Serve config) and waits until it runs and each proxy knows it.

        Until the test ends, its replicas belong to the shape that a recovery must reach again.

        Raises:
            CommandFailed: It was not taken.
            WaitTimeout: It does not run, or a proxy does not know its route.
        """
        rig = self._rig
        deadline = clock.now() + seconds(timeout)
        rig.cluster.apply_serve_config(serve_config.with_app(rig.cluster.serve_config, app))
        _wait_deployed(rig, str(app["name"]), deadline - clock.now())
        route = app.get("route_prefix", "/")
        if isinstance(route, str):
            # Until then another app may answer below that route: HAProxy knows a new one about a second later.
            left = max(1.0, deadline - clock.now())
            clock.wait_until(f"each proxy to know {route}", partial(_knows_route, rig, route), timeout=left)

    def wait_replicas(self, deployment: str, count: int, *, timeout: float | str = "60s") -> float:
        """Waits until a deployment has so many RUNNING replicas; returns the seconds that it took.

        Raises:
            WaitTimeout: It has not.
        """
        begun = clock.now()

        def enough() -> float | NotYet:
            running = _running(self._rig, deployment)
            return clock.now() - begun if running == count else NotYet(f"{running} replicas are RUNNING")

        return clock.wait_until(f"{count} replicas of {deployment}", enough, timeout=seconds(timeout))

    def redis_keys(self) -> tuple[str, ...]:
        """The keys in the Redis of the GCS, and the namespace that they should lie under, first.

        Raises:
            Unsupported: There is no Redis that can be looked into.
        """
        backend = self._rig.capability(HAS_REDIS, "look into Redis")
        return (backend.redis_namespace, *backend.redis_keys())

    def alongside(self, namespace: str | None = None) -> Cluster:
        """Another, empty cluster on the same Redis, a head alone, under a namespace of its own unless one is given.

        The caller closes it (``contextlib.closing``).

        Raises:
            Unsupported: The backend cannot start one.
            ClusterStartError: It did not come up.
        """
        backend = self._rig.capability(SHARES_REDIS, "start another cluster on the same Redis")
        return backend.start_alongside(namespace)

    def controller_log(self, pattern: str, *, since: float) -> tuple[str, ...]:
        """Lines of the Serve controller's log after `since` (monotonic seconds) that match `pattern`.

        Raises:
            Unsupported: The backend cannot show it.
        """
        backend = self._rig.capability(SHOWS_CONTROLLER_LOG, "show the controller's log")
        return backend.controller_log(pattern=pattern, since=since)


def _wait_deployed(rig: Rig, app: str, timeout: float, wanted: Target | None = None) -> None:
    """Waits until an app runs, from when on its replicas belong to the shape."""
    report = clock.wait_until(f"the app {app} to run", partial(_runs, rig, app, wanted), timeout=timeout)
    health = rig.health
    now = shape_of(rig.watcher.sample(), report, workers=health.shape.workers)
    health.expect(replace(now, nodes=health.shape.nodes))


def _knows_route(rig: Rig, route: str) -> bool | NotYet:
    """Whether each proxy has a route; of one that does not answer nobody can know."""
    without = []
    for proxy in rig.watcher.sample().of("proxy"):
        with contextlib.suppress(ObservationError):
            status, body = rig.cluster.ask_proxy(proxy, "/-/routes", timeout=2.0)
            if status == 200 and route not in routes_in(status, body):
                without.append(proxy.name)
    return NotYet(f"{', '.join(without)} does not know it") if without else True


def _running(rig: Rig, deployment: str) -> int:
    report = rig.observer.refresh()
    rows = report.serve.replicas if report.serve is not None else ()
    running = sum(f"{r.app}#{r.deployment}" == deployment and r.state == "RUNNING" for r in rows)
    return min(running, len(rig.watcher.sample().of("replica", deployment=deployment)))


def _runs(rig: Rig, app: str, target: Target | None) -> Report | NotYet:
    report = rig.observer.refresh()
    status = report.serve
    if status is None:
        return NotYet(f"Serve's REST does not answer: {report.error}")
    if status.apps.get(app) != "RUNNING":
        return NotYet(f"it is {status.apps.get(app, 'not known')}: {status.messages.get(app, '')[:200]}")
    # KubeRay passes an update on a second later; until then Serve runs the app as it was.
    old = target.accepted(status) if target is not None and status.options.get(next(iter(target.options))) else []
    if old:
        return NotYet("; ".join(old))
    wanted = {name: n for name, n in status.targets.items() if name.startswith(f"{app}#")}
    there = {name: len(rig.watcher.sample().of("replica", deployment=name)) for name in wanted}
    return report if there == wanted else NotYet(f"{there} of {wanted} replicas are there")
