from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import pytest

from pytest_serve_chaos.cluster.kuberay import names, removal
from pytest_serve_chaos.cluster.kuberay.api import ExecResult, KubeApi
from pytest_serve_chaos.cluster.kuberay.records import Pod
from pytest_serve_chaos.cluster.kuberay.removal import RemovalWatch
from pytest_serve_chaos.cluster.rest import Dashboard
from pytest_serve_chaos.errors import WaitTimeout
from tests.unit.test_kuberay_pods import FakeDashboard, pod


def of(cluster: str, uid: str, role: str) -> Pod:
    one = pod(uid, role, f"10.0.0.{len(uid)}")
    return replace(one, labels={**one.labels, names.RAY_CLUSTER: cluster})


class Api:
    """Pods of several Ray clusters in one namespace, and what a knock at an address hears."""

    def __init__(self, *pods: Pod, hears: Sequence[str]) -> None:
        self.all = list(pods)
        self.hears = list(hears)
        self.ran: list[tuple[str, str]] = []

    def pods(self, selector: str = "") -> tuple[Pod, ...]:
        cluster = selector.partition(",")[0].removeprefix(f"{names.RAY_CLUSTER}=")
        return tuple(p for p in self.all if not selector or p.labels[names.RAY_CLUSTER] == cluster)

    def run(self, name: str, container: str, command: Sequence[str], *, timeout: float) -> ExecResult:
        self.ran.append((name, command[3]))
        return ExecResult(self.hears.pop(0) if len(self.hears) > 1 else self.hears[0], "", 0)


def lose(api: Api, victim: Pod) -> RemovalWatch:
    """A watch of a pod whose object goes at once, without access to its machine."""
    watch = RemovalWatch(
        cast("KubeApi", api),
        "worker-1",
        victim,
        container_probe=None,
        dashboard=cast("Dashboard", FakeDashboard(None, {}, {})),
    )
    api.all.remove(victim)
    return watch


def test_a_pod_deleted_by_force_is_gone_when_another_of_its_cluster_hears_nothing_from_it() -> None:
    victim = of("ours", "a", "worker")
    api = Api(of("theirs", "x", "head"), of("ours", "hd", "head"), victim, hears=["open", "TimeoutError"])
    signs = lose(api, victim).evidence(by_force=True)
    assert api.ran == [("pod-hd", victim.ip)] * 2
    assert [sign.side for sign in signs] == ["cluster", "victim"]


def test_nobody_elses_pod_is_asked() -> None:
    victim = of("ours", "a", "worker")
    api = Api(of("theirs", "x", "head"), victim, hears=["TimeoutError"])
    signs = lose(api, victim).evidence(by_force=True)
    assert api.ran == []
    assert [sign.side for sign in signs] == ["cluster"]


def test_a_pod_that_goes_on_answering_is_not_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(removal, "_GONE_BY_FORCE", 0.2)
    victim = of("ours", "a", "worker")
    with pytest.raises(WaitTimeout, match="fall silent"):
        lose(Api(of("ours", "hd", "head"), victim, hears=["open"]), victim).evidence(by_force=True)
