"""The aftershock: which proxies are called deaf, which only late, and which said nothing at all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

import pytest

from pytest_serve_chaos import clock
from pytest_serve_chaos.cluster.serve_config import applications
from pytest_serve_chaos.errors import ObservationError
from pytest_serve_chaos.model import Component, Identity, Json, Topology
from pytest_serve_chaos.observe import aftershock
from pytest_serve_chaos.observe.aftershock import Aftershock

if TYPE_CHECKING:
    from pytest_serve_chaos.cluster.base import Cluster
    from pytest_serve_chaos.observe.watcher import Watcher

DEAF = float("inf")


class Proxies:
    """Three proxies of one cluster, each of which hears of a change after some seconds; and the watcher of it."""

    def __init__(self, *, hears: Mapping[str, float] | None = None, silent: str = "") -> None:
        self.hears = hears or {}
        self.silent = silent
        self.configs: list[tuple[float, dict[str, Json]]] = [(-DEAF, {"applications": [{"route_prefix": "/"}]})]
        self.there = ["head", "worker-1", "worker-2"]
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
            return 503 if proxy.node == self.cut_off else 200, ""
        known = [c for at, c in self.configs if clock.now() - at >= self.hears.get(proxy.node, 0.0)]
        return 200, json.dumps({str(app["route_prefix"]): "" for app in applications(known[-1])})

    def sample(self) -> Topology:
        proxies = [Component("proxy", node, Identity("process", ("boot", node, "1"))) for node in self.there]
        return Topology(clock.now(), tuple(proxies))


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aftershock, "HEARS_WITHIN", 0.3)
    monkeypatch.setattr(aftershock, "LATE_WITHIN", 1.2)
    monkeypatch.setattr(aftershock, "REACHED_WITHIN", 0.7)


def shake(proxies: Proxies) -> Aftershock:
    return aftershock.aftershock(cast("Cluster", proxies), cast("Watcher", proxies))


def test_proxies_that_hear_pass() -> None:
    proxies = Proxies()
    result = shake(proxies)
    assert result.passed
    assert result.asked == 3
    assert proxies.serve_config == proxies.configs[0][1], "the canary is gone"


def test_a_proxy_that_never_hears_is_deaf() -> None:
    result = shake(Proxies(hears={"worker-2": DEAF}))
    assert [proxy.node for proxy in result.deaf] == ["worker-2"]
    assert "had not served it after 1.2 s either: it answered 200 with the routes /" in result.text


def test_a_proxy_that_hears_late_fails_too_and_the_text_says_how_late() -> None:
    result = shake(Proxies(hears={"worker-2": 0.6}))
    assert [proxy.node for proxy in result.deaf] == ["worker-2"]
    assert "proxy on worker-2 served it after " in result.text


def test_who_does_not_ask_for_the_late_waits_no_longer_than_it_takes_to_be_deaf() -> None:
    proxies = Proxies(hears={"worker-2": 0.6})
    begun = clock.now()
    result = aftershock.aftershock(cast("Cluster", proxies), cast("Watcher", proxies), tells_late=False)
    assert clock.now() - begun < 1.2
    assert [proxy.node for proxy in result.deaf] == ["worker-2"]
    assert "had not served it after 0.3 s either" in result.text


def test_a_proxy_that_answers_nothing_is_not_called_deaf() -> None:
    result = shake(Proxies(silent="worker-1"))
    assert not result.deaf
    assert not result.passed
    assert "it gave no answer (timed out), so it cannot be told whether it hears the controller" in result.text


def test_a_proxy_that_went_meanwhile_is_not_deaf() -> None:
    proxies = Proxies(hears={"worker-2": DEAF})
    asked = proxies.ask_proxy

    def ask_and_go(proxy: Component, path: str, *, timeout: float) -> tuple[int, str]:
        proxies.there = ["head", "worker-1"]
        return asked(proxy, path, timeout=timeout)

    proxies.ask_proxy = ask_and_go  # type: ignore[method-assign]
    assert shake(proxies).passed


def test_a_proxy_that_does_not_reach_the_new_replica_has_not_recovered() -> None:
    proxies = Proxies()
    proxies.cut_off = "worker-1"
    result = shake(proxies)
    assert not result.passed
    assert "a new replica did not answer within 0.7 s through every proxy: proxy on worker-1: 503" in result.text
    assert proxies.serve_config == proxies.configs[0][1], "the canary is gone"
