"""The tiers that `serve-chaos rbac` prints, on a real cluster: all of a tier works, and nothing beyond it is possible.

What would break something is sent as a dry run of the API server, which asks roles and admission policies all the same.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest

from pytest_serve_chaos import clock
from pytest_serve_chaos.clock import NotYet
from pytest_serve_chaos.cluster.kubernetes import names
from pytest_serve_chaos.cluster.kubernetes.client.api import KubeApi
from pytest_serve_chaos.cluster.kubernetes.client.lease import RunLease, lease_name
from pytest_serve_chaos.cluster.kubernetes.external import rights
from pytest_serve_chaos.cluster.kubernetes.external.access_tiers import (
    TIERS,
    AccessRequest,
    Tier,
    manifests,
    rights_of,
)
from pytest_serve_chaos.cluster.kubernetes.external.object_names import names_there
from pytest_serve_chaos.cluster.kubernetes.rayservice.existing import read_ray_service
from pytest_serve_chaos.cluster.kubernetes.rayservice.head_service import dashboard_behind
from pytest_serve_chaos.errors import CommandFailed
from pytest_serve_chaos.manifests import dump
from pytest_serve_chaos.model import Json
from tests.kind.external_rayservice import PACKAGE, Somebodys
from tests.kind.needs import needs_kind
from tests.kind.test_external import theirs

__all__ = ["theirs"]  # the fixture

pytestmark = needs_kind

_POLICY_WITHIN = 30.0
"""Seconds after which an API server obeys an admission policy that was created."""

FAULTS = """
import pytest

@pytest.mark.worker_failure(how="stop")
def test_stop(experiment):
    experiment.measure(settled=False)

@pytest.mark.controller_failure
def test_controller(experiment):
    experiment.run()

@pytest.mark.node_failure(how="drain")
def test_drain(experiment):
    experiment.run()
"""
OUTCOMES: dict[Tier, dict[str, str]] = {
    "look": {"test_stop": "skipped", "test_controller": "skipped", "test_drain": "skipped"},
    "break": {"test_stop": "passed", "test_controller": "passed", "test_drain": "skipped"},
}
"""What becomes of them; a drain of the last tier is tried as a dry run, since another test drains a node."""


@dataclass(frozen=True, slots=True)
class Guest:
    """A service account of a tier.

    Attributes:
        seen: The RayService as the account sees it.
        tier: Its tier.
        api: The Kubernetes API as the account, without the plugin's guard.
        head: The pod of the head.
        stranger: A pod in the same namespace that is not the RayService's.
        node: A node that it may drain, under the head.
    """

    seen: Somebodys
    tier: Tier
    api: KubeApi
    head: str
    stranger: str
    node: str

    def kubectl(self, *arguments: str, stdin: str = "") -> str:
        """Runs kubectl as the account; returns why it was refused, "" if it was not."""
        command = ["kubectl", "--kubeconfig", str(self.seen.kubeconfig), "-n", self.seen.namespace, *arguments]
        ended = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60.0, check=False)
        return ended.stderr.strip() if ended.returncode else ""

    def attempts(self) -> dict[str, list[str]]:
        """What each tier allows, and what none does, as arguments for kubectl."""
        dry = "--dry-run=server"
        return {
            "look": [
                f"get rayservice {self.seen.name}",
                "get pods",
                f"logs {self.head} --tail=1 --all-containers",
                f"get --raw /api/v1/namespaces/{self.seen.namespace}/pods/{self.head}:8000/proxy/-/healthz",
            ],
            "break": [f"delete pod {self.head} {dry}", f"exec {self.head} -- true"],
            "drain": [f"cordon {self.node} {dry}", f"get node {self.node}"],
            "none": [
                f"delete pod {self.stranger} {dry}",
                f"exec {self.stranger} -- true",
                f"get --raw /api/v1/namespaces/{self.seen.namespace}/pods/{self.stranger}:6379/proxy/",
                f"delete pods --all {dry}",
                f"label pod {self.head} a=b {dry}",
                f"label node {self.node} a=b {dry}",
                f"annotate node {self.node} a=b {dry}",
                f"taint node {self.node} a=b:NoSchedule {dry}",
                f"delete node {self.node} {dry}",
                f"annotate rayservice {self.seen.name} a=b {dry}",
                f"delete rayservice {self.seen.name} {dry}",
                f"delete namespace {self.seen.namespace} {dry}",
                "get secrets",
                "get configmaps",
                "get pods -n kube-system",
                f"delete lease another {dry}",
                f"create deployment a --image=b {dry}",
                f"create token {AccessRequest(self.seen.namespace, self.seen.name, self.tier).account}",
            ],
        }


@pytest.fixture(params=TIERS)
def guest(theirs: Somebodys, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Guest]:
    """Somebody of a tier, for whom its owner has applied what the command prints."""
    tier = cast("Tier", request.param)
    before = theirs.dump()
    head, stranger, nodes = _pods(theirs)
    drained = nodes if tier == "drain" else ()
    command = [sys.executable, "-m", "pytest_serve_chaos.cli", "rbac", theirs.rayservice, "--tier", tier]
    printed = subprocess.run(
        [*command, *(f"--node={node}" for node in drained), "--admission-policy"],
        capture_output=True,
        text=True,
        check=True,
        env=theirs.environment(),
        cwd=PACKAGE,
    ).stdout
    wanted = AccessRequest(theirs.namespace, theirs.name, tier, nodes=drained, admission=True)
    assert printed.endswith(dump(tuple(manifests(wanted))))
    theirs.kubectl("apply", "-f", "-", stdin=printed)
    try:
        token = theirs.kubectl("-n", theirs.namespace, "create", "token", wanted.account, "--duration=2h").strip()
        seen = theirs.seen_as(tmp_path, theirs.context, {"token": token})
        with closing(KubeApi(seen.kubeconfig, context=seen.context, namespace=seen.namespace)) as api:
            there = Guest(seen, tier, api, head, stranger, nodes[0])
            _wait_for_policies(there)
            yield there
    finally:
        theirs.kubectl("delete", "-f", "-", stdin=printed)
    theirs.wait_until_as(before)


def _pods(theirs: Somebodys) -> tuple[str, str, tuple[str, ...]]:
    """The head's pod, one that is not the RayService's, and the nodes under Ray's pods, that under the head first."""
    items = json.loads(theirs.kubectl("-n", theirs.namespace, "get", "pods", "-o", "json"))["items"]
    ours = [pod for pod in items if names.RAY_CLUSTER in pod["metadata"]["labels"]]
    head = next(pod for pod in ours if pod["metadata"]["labels"][names.RAY_NODE_TYPE] == "head")
    stranger = next(pod for pod in items if pod not in ours)
    nodes = dict.fromkeys(pod["spec"]["nodeName"] for pod in (head, *ours))
    return head["metadata"]["name"], stranger["metadata"]["name"], tuple(nodes)


def _wait_for_policies(guest: Guest) -> None:
    """Waits until each policy of the tier is obeyed: an API server hears of one a little later."""
    pods = f"/api/v1/namespaces/{guest.seen.namespace}/pods/{guest.stranger}"
    refused: dict[Tier, list[str]] = {
        "look": [f"get --raw {pods}:6379/proxy/"],
        "break": [f"delete pod {guest.stranger} --dry-run=server", f"exec {guest.stranger} -- true"],
        "drain": [f"taint node {guest.node} a=b:NoSchedule --dry-run=server"],
    }
    lines = [line for tier in TIERS[: TIERS.index(guest.tier) + 1] for line in refused[tier]]

    def probe() -> bool | NotYet:
        said = {line: guest.kubectl(*line.split()) for line in lines}
        left = [f"{line}: {why or 'allowed'}" for line, why in said.items() if "ValidatingAdmissionPolicy" not in why]
        return NotYet("; ".join(left)) if left else True

    clock.wait_until("the admission policies", probe, timeout=_POLICY_WITHIN, interval=1.0)


def _is_refused(said: str) -> bool:
    return "orbidden" in said or "denied request" in said


def test_all_of_a_tier_works(guest: Guest) -> None:
    names_of = names_there(guest.api, guest.seen.name)
    assert rights.missing(guest.api, rights_of(guest.tier), names_of) == ()
    found = read_ray_service(guest.api.ray_service(guest.seen.name))
    with closing(dashboard_behind(guest.api, found.head_service)) as dashboard:
        assert dashboard.ray_version()
        assert dashboard.serve().apps
    allowed = TIERS[: TIERS.index(guest.tier) + 1]
    refused = {
        line: said for tier in allowed for line in guest.attempts()[tier] if (said := guest.kubectl(*line.split()))
    }
    assert refused == {}


def test_nothing_beyond_a_tier_is_possible(guest: Guest) -> None:
    beyond = [tier for tier in guest.attempts() if tier not in TIERS[: TIERS.index(guest.tier) + 1]]
    lines = [line for tier in beyond for line in guest.attempts()[tier]]
    said = {line: guest.kubectl(*line.split()) for line in lines}
    allowed = [line for line, why in said.items() if not _is_refused(why)]
    assert allowed == []
    more = [right for right in rights_of("drain") if right not in rights_of(guest.tier)]
    assert list(rights.missing(guest.api, more, names_there(guest.api, guest.seen.name))) == more


def test_a_pod_is_evicted_only_by_who_may_drain_and_only_if_it_is_the_rayservices(guest: Guest) -> None:
    def evict(pod: str) -> str:
        body: Json = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod}}
        path = f"/api/v1/namespaces/{guest.seen.namespace}/pods/{pod}/eviction?dryRun=All"
        return guest.kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(body))

    said = evict(guest.head)
    # A disruption budget may refuse it at this moment, which is not for want of the right.
    assert _is_refused(said) == (guest.tier != "drain")
    assert _is_refused(evict(guest.stranger))


def test_the_lease_is_for_those_who_break_something(guest: Guest) -> None:
    lease = RunLease()
    with lease.held(guest.api, guest.seen.name):
        assert bool(lease.note) == (guest.tier == "look")
        lease.check()
    with pytest.raises(CommandFailed, match=r"status 403|status 404"):
        guest.api.leases.read(lease_name(guest.seen.name))
    another: dict[str, Json] = {"metadata": {"name": "another"}, "spec": {"holderIdentity": "me"}}
    with pytest.raises(CommandFailed, match="status 403"):
        guest.api.leases.create(another)


@pytest.mark.parametrize("guest", ["look", "break"], indirect=True)
def test_faults_are_injected_as_far_as_the_tier_goes(guest: Guest, tmp_path: Path) -> None:
    (tmp_path / "test_faults.py").write_text(FAULTS)
    ran = guest.seen.run(tmp_path, "--serve-chaos-allow=node", "test_faults.py")
    assert {name: case.outcome for name, case in ran.cases.items()} == OUTCOMES[guest.tier]
    reason = "this user may not"
    assert all(reason in case.message for case in ran.cases.values() if case.outcome == "skipped")
    assert ("no run on another machine is kept away" in ran.text) == (guest.tier == "look")


def test_the_doctor_says_what_the_tier_lacks(guest: Guest) -> None:
    given = ("--context", guest.seen.context, "--rayservice", guest.seen.rayservice)
    command = [sys.executable, "-m", "pytest_serve_chaos.cli", "doctor", "kubernetes", *given]
    ended = subprocess.run(
        command, capture_output=True, text=True, check=False, env=guest.seen.environment(), cwd=PACKAGE
    )
    assert ended.returncode == 0, ended.stderr + ended.stdout
    lines = {line.split()[1]: line.split()[0] for line in ended.stdout.splitlines() if line.startswith("  ")}
    assert lines["head_failure"] == ("missing" if guest.tier == "look" else "ok")
    assert lines["node_failure"] == ("ok" if guest.tier == "drain" else "missing")
