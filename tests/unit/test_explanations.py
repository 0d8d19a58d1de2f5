"""What a dry run says of a call is what the call does: the same pods, nodes, programs and signals."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from signal import SIGKILL, SIGSTOP

import pytest

from pytest_serve_chaos.cluster.base import Cluster
from pytest_serve_chaos.cluster.capabilities import (
    DELETES_MACHINES,
    DRAINS_MACHINES,
    FREEZES_MACHINES,
    FREEZES_NODES,
    HAS_REDIS,
    KILLS_MACHINES,
    KILLS_NODES,
    SETS_HEALTH_FLAGS,
    SIGNALS_PROCESSES,
)
from pytest_serve_chaos.cluster.dry_run import EXPLAINS_CHANGES, WITHHOLDS_CHANGES, Change, DryRunCluster
from pytest_serve_chaos.cluster.kubernetes.client.api import ExecResult
from pytest_serve_chaos.cluster.kubernetes.rayservice.cluster import RayServiceCluster
from pytest_serve_chaos.cluster.policy import Touch
from pytest_serve_chaos.errors import NoSuchTarget
from pytest_serve_chaos.model import Component, Identity
from tests.capabilities import part
from tests.unit.external_services import external
from tests.unit.kind_services import Api, Nodes, fake_api, fake_service
from tests.unit.rayservices import FakeApi, FakeDashboard, pod

REPLICA = Component("replica", "worker-1", Identity("process", ("a", "container-a", "113", "7")), 113)
REDIS = Identity("container", ("r", "container-r", "1"))
MACHINES = {"h": "kind-control-plane", "a": "kind-worker", "b": "kind-worker2"}

Attempt = Callable[[Cluster], object]

ATTEMPTS: dict[str, Attempt] = {
    "kill a node": lambda c: part(c, KILLS_NODES).kill_node("worker-1", how="kill", hold=False),
    "stop a node": lambda c: part(c, KILLS_NODES).kill_node("head", how="stop", hold=False),
    "freeze a node": lambda c: part(c, FREEZES_NODES).freeze_node("worker-2"),
    "signal a process": lambda c: part(c, SIGNALS_PROCESSES).signal_process(REPLICA.identity, SIGKILL),
    "fail a health check": lambda c: part(c, SETS_HEALTH_FLAGS).set_health_flag(REPLICA, "hang"),
    "kill Redis": lambda c: part(c, HAS_REDIS).kill_redis(how="kill", hold=True),
    "kill a machine": lambda c: part(c, KILLS_MACHINES).kill_machine("worker-1", how="kill"),
    "stop a machine": lambda c: part(c, KILLS_MACHINES).kill_machine("worker-2", how="stop"),
    "freeze a machine": lambda c: part(c, FREEZES_MACHINES).freeze_machine("worker-1"),
    "delete a machine": lambda c: part(c, DELETES_MACHINES).delete_machine("worker-1", within=0.0),
    "drain a machine": lambda c: part(c, DRAINS_MACHINES).drain_machine("worker-2"),
}
"""All that is done by requests, or on machines, in a way that the doubles of this test can tell."""


@pytest.fixture
def api() -> Api:
    found = fake_api()
    found.ray_pods = [replace(p, node=MACHINES[p.uid]) for p in found.ray_pods]
    found.result = ExecResult(json.dumps({"left": [], "processes": 3}), "", 0)
    return found


def gone_from(api: Api, machine: str) -> None:
    """What is scaled down, or drained, is gone when somebody looks; a look changes nothing."""
    if str(api.calls[-1][0]).startswith(("read", "list")):
        return
    api.redis = ()
    api.ray_pods = [p for p in api.ray_pods if p.node != machine]


@pytest.fixture
def nodes() -> Nodes:
    return Nodes()


@pytest.fixture
def service(api: Api, nodes: Nodes) -> RayServiceCluster:
    return fake_service(api, nodes, FakeDashboard(None, {}, {}), [])


def steps(cluster: Cluster, attempt: Attempt) -> list[str]:
    """What a dry run says of a call."""
    dry = DryRunCluster(cluster)
    withholds = part(dry, WITHHOLDS_CHANGES)
    return [step.text for change in withholds.changes_of(lambda: attempt(dry)) for step in withholds.steps(change)]


def said(texts: Sequence[str]) -> set[tuple[str, ...]]:
    """The same in the words of the doubles: what is done, to whom."""
    found: set[tuple[str, ...]] = set()
    for text in texts:
        if match := re.match(r"DELETE pods/(\S+) .*grace period (\d+) s", text):
            found.add(("delete", match[1], match[2]))
        elif match := re.match(r"EXEC in container \S+ of pods/(\S+) .*\): \S+ (.*)", text):
            found.add(("exec", match[1]))
        elif match := re.match(r"PATCH deployments/(\S+) .*: spec.replicas", text):
            found.add(("patch_namespaced_deployment", match[1]))
        elif match := re.match(r"(PATCH|DELETE) nodes/(\S+?)(:|$)", text):
            found.add((f"{match[1].lower()}_node", match[2]))
        elif match := re.match(r"POST pods/(\S+)/eviction", text):
            found.add(("create_namespaced_pod_eviction", match[1]))
        else:
            assert text.startswith("docker "), text
            found.add(tuple(text.split()[1:]))
    return found


def done(api: Api, nodes: Nodes) -> set[tuple[str, ...]]:
    """What was really asked of the API server, of pods, and of machines."""
    changes = [call for call in api.calls if not str(call[0]).startswith(("read", "list"))]
    return {
        *(("delete", name, "30" if grace is None else str(grace)) for name, grace in api.deleted),
        *(("exec", name) for name, _ in api.ran),
        *((str(method), str(name)) for method, name, *_ in changes),
        *(tuple(asked.split()) for asked in nodes.asked),
    }


@pytest.mark.parametrize("what", ATTEMPTS)
def test_what_is_said_of_a_call_on_kind_is_what_it_does(
    service: RayServiceCluster, api: Api, nodes: Nodes, what: str
) -> None:
    promised = said(steps(service, ATTEMPTS[what]))

    assert not done(api, nodes)
    assert promised
    api.on_call = lambda: gone_from(api, "kind-worker2")
    ATTEMPTS[what](service)
    assert done(api, nodes) == promised


def test_a_pod_is_named_with_its_uid(service: RayServiceCluster) -> None:
    assert steps(service, ATTEMPTS["kill a node"]) == [
        "DELETE pods/pod-a in namespace serve-chaos (UID a, grace period 0 s)"
    ]


def test_a_node_that_is_held_taints_all_machines_before_its_pod_goes(service: RayServiceCluster) -> None:
    texts = steps(service, lambda c: part(c, KILLS_NODES).kill_node("head", how="kill", hold=True))

    assert texts == [
        "PATCH nodes/kind-worker: taint pytest-serve-chaos/no-head=held:NoSchedule",
        "PATCH nodes/kind-worker2: taint pytest-serve-chaos/no-head=held:NoSchedule",
        "DELETE pods/pod-h in namespace serve-chaos (UID h, grace period 0 s)",
    ]


def test_the_first_process_of_a_container_is_signalled_on_its_machine(service: RayServiceCluster) -> None:
    (text,) = steps(service, lambda c: part(c, SIGNALS_PROCESSES).signal_process(REDIS, SIGSTOP))

    assert text.startswith("on machine kind-worker: SIGSTOP to the first process of container ray-redis of pods/pod-r")


def test_a_machine_that_is_not_for_faults_is_an_error(service: RayServiceCluster) -> None:
    with pytest.raises(NoSuchTarget, match="kind-control-plane, which is not a machine for faults"):
        steps(service, lambda c: part(c, KILLS_MACHINES).kill_machine("head", how="kill"))


# -- an external cluster -----------------------------------------------------------------------------------------------


def theirs() -> RayServiceCluster:
    api = FakeApi(pod("h", "head", "10.0.0.1"), pod("a", "worker", "10.0.0.2"), pod("b", "worker", "10.0.0.3"))
    return external(api=api, allow=["node"])


def undo_entries(attempt: Attempt) -> list[str]:
    dry = DryRunCluster(theirs())
    withholds = part(dry, WITHHOLDS_CHANGES)
    found = [step.undo for change in withholds.changes_of(lambda: attempt(dry)) for step in withholds.steps(change)]
    return [undo for undo in found if undo]


@pytest.mark.parametrize(
    ("attempt", "undo"),
    [
        (
            lambda c: part(c, FREEZES_NODES).freeze_node("worker-1"),
            "tidy_pod: what is stopped, or flagged, in pods/*",
        ),
        (lambda c: part(c, SIGNALS_PROCESSES).signal_process(REPLICA.identity, SIGSTOP), "tidy_pod: what is stopped*"),
        (lambda c: part(c, SETS_HEALTH_FLAGS).set_health_flag(REPLICA, "raise"), "tidy_pod: what is stopped*"),
        (lambda c: part(c, DRAINS_MACHINES).drain_machine("worker-1"), "uncordon_node: nodes/kind-worker"),
    ],
    ids=["freeze", "stop", "flag", "drain"],
)
def test_what_the_journal_would_get_is_shown(attempt: Attempt, undo: str) -> None:
    (found,) = undo_entries(attempt)
    assert found.startswith(undo.rstrip("*"))


def test_proxies_that_will_not_hear_the_next_controller_are_marked() -> None:
    proxy = Component("proxy", "worker-1", REPLICA.identity, 113)
    change = Change("RecordsStaleProxies", "stale_after", {"controller": REPLICA, "proxies": [proxy, proxy]})
    (step,) = part(theirs(), EXPLAINS_CHANGES).steps(change)
    assert step.text.endswith("of pods/pod-a in namespace serve-chaos (UID a): stale mark")
    assert step.undo.startswith("replace_stale_proxies: ")


def test_what_needs_no_undoing_has_no_entry() -> None:
    assert undo_entries(lambda c: part(c, KILLS_NODES).kill_node("worker-1", how="kill", hold=False)) == []
    assert undo_entries(lambda c: part(c, SIGNALS_PROCESSES).signal_process(REPLICA.identity, SIGKILL)) == []


def test_the_rights_are_those_that_the_policy_asks_for() -> None:
    rights = part(DryRunCluster(theirs()), WITHHOLDS_CHANGES).rights(Touch(actions=("delete pods", "run in pods")))
    assert rights == ("delete pods", "get pods/exec", "create pods/exec")
