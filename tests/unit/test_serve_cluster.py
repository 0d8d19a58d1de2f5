"""What `serve_cluster` waits for after it has changed the Serve config."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import cast

import pytest

from pytest_serve_chaos import clock
from pytest_serve_chaos.cluster.base import Cluster
from pytest_serve_chaos.cluster.rest import ServeStatus
from pytest_serve_chaos.errors import ObservationError, WaitTimeout
from pytest_serve_chaos.faults.rig import Rig
from pytest_serve_chaos.handle import ServeCluster
from pytest_serve_chaos.model import Component, Identity, Json, Role, Topology
from pytest_serve_chaos.observe.observer import Report


def component(role: Role, number: int) -> Component:
    deployment = "shop#Front" if role == "replica" else None
    return Component(role, f"worker-{number}", Identity("process", (role, str(number), "1")), deployment=deployment)


def front(replicas: int) -> ServeStatus:
    options: dict[str, Json] = {"name": "Front", "num_replicas": replicas}
    return ServeStatus(
        apps={"shop": "RUNNING"}, targets={"shop#Front": replicas}, deployments={"shop#Front": "HEALTHY"}, messages={},
        replicas=(), proxies={}, controller="c", options={"shop#Front": options},
    )  # fmt: skip


@dataclass
class There:
    """A cluster that has so many replicas, in each look of its own, and proxies with these routes.

    Attributes:
        replicas: How many it has in each look; the last number stays.
        routes: What each proxy answers to ``/-/routes`` in each look; None: nothing.
    """

    replicas: Sequence[int] = (2,)
    routes: Sequence[str | None] = ('{"/new": "new"}',)
    looks: int = 0
    asked: int = 0
    expected: list[object] = field(default_factory=list)

    def handle(self) -> ServeCluster:
        spec: dict[str, Json] = {"applications": [{"name": "shop", "import_path": "shop:app"}]}
        cluster = SimpleNamespace(serve_config=spec, apply_serve_config=lambda config: None, ask_proxy=self.ask)
        shape = SimpleNamespace(workers=None, nodes={})
        rig = SimpleNamespace(
            cluster=cast("Cluster", cluster),
            watcher=SimpleNamespace(sample=self.topology),
            observer=SimpleNamespace(refresh=self.report),
            health=SimpleNamespace(shape=shape, expect=self.expected.append),
        )
        return ServeCluster(cast("Rig", rig))

    def topology(self) -> Topology:
        replicas = self.replicas[min(self.looks, len(self.replicas)) - 1]
        return Topology(
            0.0, (component("proxy", 1), *(component("replica", number) for number in range(1, replicas + 1)))
        )

    def report(self) -> Report:
        self.looks += 1
        return Report(serve=front(self.replicas[min(self.looks, len(self.replicas)) - 1]))

    def ask(self, proxy: Component, path: str, *, timeout: float) -> tuple[int, str]:
        self.asked += 1
        said = self.routes[min(self.asked, len(self.routes)) - 1]
        if said is None:
            raise ObservationError("it is silent")
        return 200, said


@pytest.fixture(autouse=True)
def shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    shape = lambda *_, **__: SimpleNamespace()  # noqa: E731
    monkeypatch.setattr("pytest_serve_chaos.handle.shape_of", shape)
    monkeypatch.setattr("pytest_serve_chaos.handle.replace", lambda now, **_: now)
    monkeypatch.setattr(clock, "wait_until", wait_until)


def wait_until(what: str, probe: object, *, timeout: float, **_: object) -> object:
    assert callable(probe)
    for _look in range(5):
        found: object = probe()
        if not isinstance(found, clock.NotYet):
            return found
    assert isinstance(found, clock.NotYet)
    raise WaitTimeout(what, timeout=timeout, last_seen=found.seen)


def test_an_update_that_serve_has_not_taken_yet_is_awaited() -> None:
    there = There(replicas=(6, 6, 4))
    there.handle().update("shop#Front", num_replicas=4)
    assert there.looks == 3


def test_an_update_that_serve_never_takes_says_what_serve_still_wants() -> None:
    with pytest.raises(WaitTimeout) as caught:
        There(replicas=(6,)).handle().update("shop#Front", num_replicas=4)
    assert "Serve wants 6 replicas of shop#Front" in caught.value.last_seen


def deploy(there: There, **changes: Json) -> None:
    app: Mapping[str, Json] = {"name": "shop", "route_prefix": "/new", "import_path": "shop:app", **changes}
    there.handle().deploy(app)


def test_an_app_is_deployed_when_each_proxy_knows_its_route() -> None:
    there = There(routes=('{"/": "other"}', '{"/": "other"}', '{"/": "other", "/new": "shop"}'))
    deploy(there)
    assert there.asked == 3


def test_a_proxy_that_never_knows_it_is_named() -> None:
    with pytest.raises(WaitTimeout) as caught:
        deploy(There(routes=('{"/": "other"}',)))
    assert caught.value.last_seen == "proxy on worker-1 does not know it"


@pytest.mark.parametrize("said", [None, '{"/": "x"}'], ids=["a silent proxy", "an app without a route"])
def test_what_nobody_can_know_is_not_awaited(said: str | None) -> None:
    there = There(routes=(said,))
    deploy(there, **({} if said is None else {"route_prefix": None}))
    assert there.expected
