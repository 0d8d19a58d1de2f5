"""The post-recovery check: which proxies hear of an update and a scale-up, which are stale, or do not answer."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from pytest_serve_chaos import clock
from pytest_serve_chaos.cluster.rest import ReplicaRow
from pytest_serve_chaos.cluster.serve_config import applications
from pytest_serve_chaos.errors import ObservationError
from pytest_serve_chaos.model import Component, Identity, Json, Topology
from pytest_serve_chaos.observe import post_recovery
from pytest_serve_chaos.observe.post_recovery import PostRecoveryCheck
from tests.unit.quick_time import QuickTime

if TYPE_CHECKING:
    from pytest_serve_chaos.cluster.base import Cluster
    from pytest_serve_chaos.observe.watcher import Watcher

DEAF = float("inf")


class Proxies:
    """Three proxies of one cluster, each of which hears of a change after some seconds; and the watcher of it.

    Like Serve's, a proxy sends nothing to another replica as long as the first is free.

    Attributes:
        hears: Node -> seconds until its proxy hears of a route.
        learns: Node -> seconds until its proxy hears of a second replica.
        silent: The node whose proxy never answers.
        mute: The node whose proxy falls silent when there are two replicas.
        starts: How many replicas come up.
        there: The nodes that have a proxy now.
        app: The nodes that have replicas of the app.
        successor: The node whose proxy is another one from now on.
    """

    def __init__(
        self, *, hears: Mapping[str, float] | None = None, learns: Mapping[str, float] | None = None, silent: str = ""
    ) -> None:
        self.hears = hears or {}
        self.learns = learns or {}
        self.silent = silent
        self.mute = ""
        self.starts = 2
        self.dashboard = SimpleNamespace(serve=lambda: SimpleNamespace(replicas=self.replicas()))
        self._first = threading.Lock()
        self._other_came = threading.Event()
        self.configs: list[tuple[float, dict[str, Json]]] = [(-DEAF, {"applications": [{"route_prefix": "/"}]})]
        self.there = ["head", "worker-1", "worker-2"]
        self.app = ["worker-1", "worker-2"]
        self.successor = ""
        self.cut_off = ""

    @property
    def serve_config(self) -> dict[str, Json]:
        return self.configs[-1][1]

    def apply_serve_config(self, config: Mapping[str, Json]) -> None:
        self.configs.append((clock.now(), dict(config)))

    def ask_proxy(self, proxy: Component, path: str, *, timeout: float) -> tuple[int, str]:
        if proxy.node == self.silent:
            raise ObservationError("timed out")
        if path != "/-/routes":
            return (503, "") if proxy.node == self.cut_off else self._answer(proxy)
        known = self._known(self.hears.get(proxy.node, 0.0))
        return 200, json.dumps({str(app["route_prefix"]): "" for app in applications(known)})

    def replicas(self) -> tuple[ReplicaRow, ...]:
        """The canary's, as Serve has them: those that do not come up are starting."""
        app = applications(self.serve_config)[-1]
        states = ["RUNNING" if n < self.starts else "STARTING" for n in range(_wanted(self.serve_config))]
        return tuple(ReplicaRow(str(n), str(app["name"]), "", s, None, None, None) for n, s in enumerate(states))

    def _answer(self, proxy: Component) -> tuple[int, str]:
        if proxy.node == self.mute and _wanted(self.serve_config) > 1:
            raise ObservationError("timed out")
        two = _wanted(self._known(self.learns.get(proxy.node, 0.0))) > 1
        if self._first.acquire(blocking=not two):
            if two:  # it is busy until the request alongside this one has come
                self._other_came.wait(5.0)
                self._other_came.clear()
            self._first.release()
            return 200, "first"
        self._other_came.set()
        return 200, "second"

    def _known(self, delay: float) -> dict[str, Json]:
        return [config for at, config in self.configs if clock.now() - at >= delay][-1]

    def sample(self) -> Topology:
        started = {node: "2" if node == self.successor else "1" for node in self.there}
        proxies = [Component("proxy", node, Identity("process", ("boot", node, at))) for node, at in started.items()]
        replicas = [
            Component("replica", node, Identity("process", ("boot", node, "3")), deployment="app#Pid")
            for node in self.app
        ]
        return Topology(clock.now(), (*proxies, *replicas))


def _wanted(config: Mapping[str, Json]) -> int:
    """How many replicas of the canary a config wants."""
    deployments = cast("list[dict[str, int]]", applications(config)[-1].get("deployments", []))
    return sum(deployment["num_replicas"] for deployment in deployments)


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "time", QuickTime())


ALL = frozenset({"head", "worker-1", "worker-2"})


def shake(proxies: Proxies, nodes: frozenset[str] = ALL) -> PostRecoveryCheck:
    return post_recovery.check_proxies(cast("Cluster", proxies), cast("Watcher", proxies), nodes=nodes)


def then(proxies: Proxies, what: Callable[[], None]) -> None:
    """Does it with the first question, before it is answered."""
    asked = proxies.ask_proxy

    def ask(proxy: Component, path: str, *, timeout: float) -> tuple[int, str]:
        what()
        return asked(proxy, path, timeout=timeout)

    proxies.ask_proxy = ask  # type: ignore[method-assign]


def test_proxies_that_hear_pass() -> None:
    proxies = Proxies()
    result = shake(proxies)
    assert result.passed
    assert result.asked == 3
    assert re.fullmatch(
        r"a new route was served by all 3 proxies within [\d.]+ s, and a second replica [\d.]+ s after the scale-up",
        result.text,
    )
    assert [_wanted(config) for _, config in proxies.configs] == [0, 1, 2, 0]
    assert proxies.serve_config == proxies.configs[0][1], "the canary is gone"


def test_a_proxy_that_never_hears_is_deaf() -> None:
    result = shake(Proxies(hears={"worker-2": DEAF}))
    assert [proxy.node for proxy in result.stale] == ["worker-2"]
    assert "not served by proxy on worker-2 within 30 s (ray#63784)" in result.text
    assert "proxy on worker-2: it answered 200 with the routes /" in result.text


def test_a_proxy_that_hears_when_the_old_address_is_given_up_is_not_deaf() -> None:
    result = shake(Proxies(hears={"worker-2": 21.0}))
    assert result.passed
    assert result.text.startswith("a new route was served by all 3 proxies within 21.")


def test_a_proxy_that_answers_nothing_is_not_called_deaf() -> None:
    result = shake(Proxies(silent="worker-1"))
    assert not result.stale
    assert not result.passed
    assert "it gave no answer (timed out), so it is unknown whether it hears the controller" in result.text


def test_a_node_that_lost_its_last_replica_meanwhile_needs_no_proxy_any_more() -> None:
    proxies = Proxies(hears={"worker-2": DEAF})

    def moves() -> None:
        proxies.there, proxies.app = ["head", "worker-1"], ["worker-1"]

    then(proxies, moves)
    result = shake(proxies)
    assert (result.passed, result.asked) == (True, 2)


@pytest.mark.parametrize("node", ["head", "worker-2"])
def test_a_proxy_that_is_missing_at_the_end_is_a_problem(node: str) -> None:
    """On the head always, on a worker as long as it has replicas: the others still hear."""
    proxies = Proxies()
    then(proxies, lambda: proxies.there.remove(node) if node in proxies.there else None)
    result = shake(proxies)
    assert not result.passed
    assert not result.stale
    assert result.text.endswith(f"no proxy on {node}")


def test_a_proxy_that_is_missing_from_the_beginning_is_a_problem() -> None:
    proxies = Proxies()
    proxies.there = ["worker-1", "worker-2"]
    result = shake(proxies)
    assert (result.passed, result.text) == (False, "no proxy on head")


def test_a_proxy_that_goes_with_the_canary_is_a_problem() -> None:
    proxies = Proxies()
    put = proxies.apply_serve_config

    def put_and_lose(config: Mapping[str, Json]) -> None:
        put(config)
        if len(proxies.configs) == 4:
            proxies.there.remove("head")

    proxies.apply_serve_config = put_and_lose  # type: ignore[method-assign]
    result = shake(proxies)
    assert (result.passed, result.text) == (False, "no proxy on head")


def test_the_successor_of_a_proxy_that_died_is_asked() -> None:
    proxies = Proxies(hears={"worker-2": DEAF})
    asked = proxies.ask_proxy
    seen: list[str] = []

    def ask(proxy: Component, path: str, *, timeout: float) -> tuple[int, str]:
        if proxy.node == "worker-2":
            seen.append(proxy.identity.parts[-1])
        if len(seen) > 3:  # it dies, and its successor hears
            proxies.successor, proxies.hears = "worker-2", {}
        return asked(proxy, path, timeout=timeout)

    proxies.ask_proxy = ask  # type: ignore[method-assign]
    assert shake(proxies).passed
    assert seen[:4] == ["1"] * 4
    assert set(seen[4:]) == {"2"}


def test_of_two_proxies_on_a_node_both_must_hear() -> None:
    proxies = Proxies()
    sample = proxies.sample

    def with_another() -> Topology:
        seen = sample()
        stale = Component("proxy", "head", Identity("process", ("boot", "another", "1")))
        return Topology(seen.at, (*seen.components, stale))

    proxies.sample = with_another  # type: ignore[method-assign]
    asked = proxies.ask_proxy

    def ask(proxy: Component, path: str, *, timeout: float) -> tuple[int, str]:
        if "another" in proxy.identity.parts:
            return 200, json.dumps({"/": ""})
        return asked(proxy, path, timeout=timeout)

    proxies.ask_proxy = ask  # type: ignore[method-assign]
    assert [proxy.identity.parts[1] for proxy in shake(proxies).stale] == ["another"]


def test_all_of_no_proxies_hear_nothing() -> None:
    result = shake(Proxies(), nodes=frozenset())
    assert (result.passed, result.text) == (False, "there are no proxies to ask")

    proxies = Proxies()
    proxies.there = []
    result = shake(proxies)
    assert (result.passed, result.text) == (False, "no proxy on head; no proxy on worker-1; no proxy on worker-2")


def test_a_proxy_that_does_not_reach_the_new_replica_has_not_recovered() -> None:
    proxies = Proxies()
    proxies.cut_off = "worker-1"
    result = shake(proxies)
    assert not result.passed
    assert "a new replica did not answer within 30 s through every proxy: proxy on worker-1: 503" in result.text
    assert proxies.serve_config == proxies.configs[0][1], "the canary is gone"


def test_a_proxy_that_knows_the_route_but_never_learns_of_a_second_replica_is_deaf() -> None:
    proxies = Proxies(learns={"worker-1": DEAF})
    result = shake(proxies)
    assert [proxy.node for proxy in result.stale] == ["worker-1"]
    assert result.text.startswith(
        "1 of 3 proxies do not hear the controller: the second replica of a new app was not served by"
        " proxy on worker-1 within 30 s (ray#63784)."
    )
    assert "proxy on worker-1: it answered 200 from the first replica" in result.text
    assert proxies.serve_config == proxies.configs[0][1], "the canary is gone"


def test_a_proxy_that_answers_nothing_once_there_are_two_replicas_is_not_called_deaf() -> None:
    proxies = Proxies()
    proxies.mute = "head"
    result = shake(proxies)
    assert not result.stale
    assert not result.passed
    assert "it gave no answer (timed out), so it is unknown whether it hears the controller" in result.text


def test_a_second_replica_that_never_runs_is_not_the_proxies_doing() -> None:
    proxies = Proxies()
    proxies.starts = 1
    result = shake(proxies)
    assert not result.stale
    assert not result.passed
    assert result.text.startswith("a scale-up from one replica to two was not done: ")
    assert "Serve has RUNNING, STARTING" in result.text
    assert proxies.serve_config == proxies.configs[0][1], "the canary is gone"
