"""The post-recovery check on an external cluster: which proxies must find the new replicas, and which are missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

import pytest

from pytest_serve_chaos.cluster.capabilities import IsExternal
from pytest_serve_chaos.cluster.rest import ReplicaRow, ServeStatus
from pytest_serve_chaos.errors import Unsupported
from pytest_serve_chaos.model import Component, Identity, Json, Topology
from pytest_serve_chaos.observe import external_check
from pytest_serve_chaos.observe.observer import Report
from pytest_serve_chaos.observe.post_recovery import PostRecoveryCheck
from pytest_serve_chaos.observe.watcher import Watcher
from pytest_serve_chaos.traffic.request import Message

PID = "app#Pid"
ALL = frozenset({"head", "worker-1", "worker-2"})
NODES = (
    Component("head", "head", Identity("pod", ("h",))),
    *(Component("worker", f"worker-{n}", Identity("pod", (f"w{n}",))) for n in (1, 2)),
)


@dataclass
class External:
    """Somebody else's cluster, and its watcher: each worker has a replica, which is replaced as soon as it is killed.

    Attributes:
        proxies: The nodes that have one.
        replicas: Node -> number of its replica.
        loses: The node whose proxy goes with the first replica that is killed.
        deaf: The node whose proxy knows the first replicas only.
        scales_to: How many replicas Serve wants from the first kill on; 0: it does not scale.
    """

    proxies: list[str] = field(default_factory=lambda: sorted(ALL))
    replicas: dict[str, int] = field(default_factory=lambda: {"worker-1": 1, "worker-2": 2})
    loses: str = ""
    stale: str = ""
    kills: int = 0
    may_kill: int = 9
    scales_to: int = 0

    def sample(self) -> Topology:
        proxies = [Component("proxy", node, Identity("pod", (node,))) for node in self.proxies]
        replicas = [
            Component(
                "replica", node, Identity("actor", (str(n),)), n, f"a{n}", PID, replica=f"{PID}#{n}",
            )
            for node, n in self.replicas.items()
        ]  # fmt: skip
        return Topology(0.0, (*NODES, *proxies, *replicas))

    @property
    def report(self) -> Report:
        rows = [ReplicaRow(str(n), "app", "Pid", "RUNNING", f"a{n}", None, n) for n in self.replicas.values()]
        scales: Mapping[str, Json] = {"autoscaling_config": {"min_replicas": 1, "max_replicas": 4}}
        options = {PID: scales} if self.scales_to else {}
        targets = {PID: self.scales_to} if self.scales_to else {}
        return Report(float("inf"), serve=ServeStatus({}, targets, {}, {}, tuple(rows), {}, None, options=options))

    def kill(self, replica: Component) -> None:
        self.kills += 1
        if self.kills > self.may_kill:
            raise Unsupported("another run has it now")
        self.replicas = {node: n + 10 if n == replica.pid else n for node, n in self.replicas.items()}
        self.proxies = [node for node in self.proxies if node != self.loses]
        if self.scales_to:  # what is killed is not replaced where Serve wants fewer
            self.replicas = dict(sorted(self.replicas.items(), key=lambda one: -one[1])[: self.scales_to])

    def who_answers(self, proxy: Component, messages: Sequence[Message] = ()) -> frozenset[str]:
        if proxy.node == self.stale:
            return frozenset({"1", "2"})
        return frozenset(str(n) for n in self.replicas.values())


def check(external: External, nodes: frozenset[str] = ALL) -> PostRecoveryCheck:
    return external_check.replace_replicas(
        cast("IsExternal", external), cast("Watcher", external), nodes=nodes, kill=external.kill
    )


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(external_check, "HEARS_WITHIN", 0.0)


def test_proxies_that_find_the_new_replicas_pass() -> None:
    external = External()
    result = check(external)
    assert (result.passed, result.asked, external.kills) == (True, 3, 2)


def test_a_proxy_that_does_not_is_deaf() -> None:
    assert [proxy.node for proxy in check(External(stale="worker-2")).stale] == ["worker-2"]


@pytest.mark.parametrize("node", ["head", "worker-1"])
def test_a_proxy_that_is_missing_at_the_end_is_a_problem(node: str) -> None:
    result = check(External(loses=node))
    assert (result.passed, result.stale, result.text) == (False, (), f"no proxy on {node}")


def test_all_of_no_proxies_find_nothing() -> None:
    nobody, nowhere = External(proxies=[]), External()
    assert (check(nobody).passed, check(nobody).text) == (False, "there are no proxies to ask")
    assert not check(nowhere, frozenset()).passed
    assert (nobody.kills, nowhere.kills) == (0, 0), "nothing is broken where nothing can be shown"


def test_what_may_not_be_killed_any_more_ends_the_check() -> None:
    external = External(may_kill=1)
    assert check(external).unknown == "the post-recovery check could not run: another run has it now"
    assert sorted(external.replicas.values()) == [2, 11], "the second one was left alone"


def test_a_replica_of_which_serve_wants_fewer_by_then_is_not_awaited() -> None:
    external = External(scales_to=1)
    assert check(external).passed, check(external).text
    assert len(external.replicas) == 1


def test_an_only_replica_is_not_replaced_unless_the_test_says_so() -> None:
    external = External(replicas={"worker-1": 1})
    result = check(external)
    assert (result.passed, external.kills) == (False, 0)
    assert f"it replaces a replica of {PID}, and no other of them runs, so losing it leaves none" in result.unknown
    external_check.replace_replicas(
        cast("IsExternal", external), cast("Watcher", external), nodes=ALL, kill=external.kill, allow_total_loss=True
    )
    assert external.kills == 1
