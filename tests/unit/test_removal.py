from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import cast

import pytest

from pytest_serve_chaos import clock
from pytest_serve_chaos.cluster.kubernetes import names
from pytest_serve_chaos.cluster.kubernetes.client.api import ExecResult, KubeApi
from pytest_serve_chaos.cluster.kubernetes.client.pod_watch import PodWatch
from pytest_serve_chaos.cluster.kubernetes.client.records import Pod
from pytest_serve_chaos.cluster.kubernetes.rayservice import removal
from pytest_serve_chaos.cluster.kubernetes.rayservice.removal import RemovalWatch
from pytest_serve_chaos.cluster.rest import Dashboard, NodeRow
from pytest_serve_chaos.errors import ObservationError, WaitTimeout
from tests.unit.rayservices import FakeDashboard, pod


def of(cluster: str, uid: str, role: str) -> Pod:
    one = pod(uid, role, f"10.0.0.{len(uid)}")
    return replace(one, labels={**one.labels, names.RAY_CLUSTER: cluster})


class Api:
    """Pods of several Ray clusters in one namespace, and what a knock at an address hears.

    Attributes:
        late: How many of the next lists of pods are given up.
    """

    def __init__(self, *pods: Pod, hears: Sequence[str]) -> None:
        self.all = list(pods)
        self.hears = list(hears)
        self.ran: list[tuple[str, str]] = []
        self.late = 0

    def pods(self, selector: str = "") -> tuple[Pod, ...]:
        if self.late:
            self.late -= 1
            raise ObservationError("pods: ReadTimeoutError")
        cluster = selector.partition(",")[0].removeprefix(f"{names.RAY_CLUSTER}=")
        return tuple(p for p in self.all if not selector or p.labels[names.RAY_CLUSTER] == cluster)

    def run(self, name: str, container: str, command: Sequence[str], *, timeout: float) -> ExecResult:
        self.ran.append((name, command[3]))
        return ExecResult(self.hears.pop(0) if len(self.hears) > 1 else self.hears[0], "", 0)


class Late(FakeDashboard):
    """A dashboard that knows one node, and does not answer in time when it is asked for the second time."""

    def __init__(self, address: str) -> None:
        super().__init__([], {"n-a": address}, {})
        self.asked = 0

    def nodes(self) -> tuple[NodeRow, ...]:
        self.asked += 1
        if self.asked == 2:
            raise ObservationError("GET /api/v0/nodes: timed out")
        return super().nodes() if self.asked == 1 else ()


class Watched:
    """What a watch of pods knows each time it is asked; afterwards it says that all are gone, since then.

    Args:
        knows: The pods that are there, or why it does not know.
        gone: When they went; None: it never says so.
    """

    def __init__(self, *knows: Sequence[Pod] | ObservationError, gone: float | None) -> None:
        self._knows = list(knows)
        self._gone = gone

    def pods(self, labels: Mapping[str, str]) -> tuple[Pod, ...]:
        known = self._knows.pop(0) if self._knows else ()
        if isinstance(known, ObservationError):
            raise known
        return tuple(known)

    def gone(self, uid: str) -> float | None:
        return None if self._knows else self._gone


def lose(api: Api, victim: Pod, dashboard: FakeDashboard | None = None, watch: Watched | None = None) -> RemovalWatch:
    """A watch of a pod whose object goes at once, without access to its machine."""
    removal = RemovalWatch(
        cast("KubeApi", api),
        "worker-1",
        victim,
        container_probe=None,
        dashboard=cast("Dashboard", dashboard or FakeDashboard(None, {}, {})),
        pods=cast("PodWatch | None", watch),
    )
    api.all.remove(victim)
    return removal


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


def test_an_answer_that_is_late_says_nothing_and_is_asked_for_again() -> None:
    victim = of("ours", "a", "worker")
    api = Api(of("ours", "hd", "head"), victim, hears=["TimeoutError"])
    watch = lose(api, victim)
    api.late = 2
    assert [sign.side for sign in watch.evidence(by_force=True)] == ["cluster", "victim"]
    assert api.late == 0


def test_who_is_to_knock_is_asked_again_where_the_answer_is_late() -> None:
    victim = of("ours", "a", "worker")
    api = Api(of("ours", "hd", "head"), victim, hears=["TimeoutError"])
    watch = lose(api, victim, watch=Watched(gone=clock.now()))
    api.late = 1
    assert [sign.side for sign in watch.evidence(by_force=True)] == ["cluster", "victim"]


def test_a_gcs_that_is_late_is_asked_again() -> None:
    victim = of("ours", "a", "worker")
    dashboard = Late(victim.ip)
    signs = lose(Api(victim, hears=["TimeoutError"]), victim, dashboard).evidence(by_force=False)
    assert dashboard.asked == 3
    assert signs[-1].text == "the GCS says that node n-a is DEAD"


def test_a_watch_says_when_a_pod_went_and_the_api_server_is_not_asked() -> None:
    victim = of("ours", "a", "worker")
    api = Api(victim, hears=[])
    watch = lose(api, victim, watch=Watched([victim], ObservationError("no answer"), [victim], gone=5.0))
    api.late = 1
    cluster, _ = watch.evidence(by_force=False)
    assert (cluster.at, cluster.side) == (5.0, "cluster")
    assert api.late == 1, "nobody asked"


def test_a_pod_of_which_a_watch_does_not_know_is_not_gone() -> None:
    victim = of("ours", "a", "worker")
    watch = lose(Api(victim, hears=[]), victim, watch=Watched(gone=None))
    with pytest.raises(WaitTimeout, match="does not know pod-a yet"):
        watch.evidence(by_force=False, within=0.1)
