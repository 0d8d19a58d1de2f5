"""The fault `worker_failure`: a worker goes, with its proxy and replicas, until the platform starts it again."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_serve_chaos.cluster.policy import Touch, touch_pod
from pytest_serve_chaos.faults.defaults import unless_away, with_profile
from pytest_serve_chaos.faults.injection import Injection
from pytest_serve_chaos.faults.nodes import NODE_NEEDS, NODE_VERBS, NodeTarget, break_node, choose_worker
from pytest_serve_chaos.faults.rig import Rig
from pytest_serve_chaos.faults.spec import FaultSpec, away_for, hold, keyword
from pytest_serve_chaos.kinds import NodeName
from pytest_serve_chaos.model import Expectations
from pytest_serve_chaos.prediction import node_rules

NAME = "worker_failure"
EXPECTED = Expectations(
    availability=0.98,
    longest_outage=5.0,
    replaced=("worker@victims", "replica@victims"),
    kept=("head", "gcs", "controller", "replica@others"),
)


@dataclass(frozen=True)
class WorkerKeywords:
    """What its marker can say."""

    which: str = keyword(NodeName("most_replicas", "random"), "most_replicas")
    hold: bool = hold()
    for_: float | None = away_for()


def target(rig: Rig, which: str) -> NodeTarget:
    """A worker: ``chaos.worker(which)``."""
    return NodeTarget(rig, NAME, choose_worker(rig, which))


def _inject(rig: Rig, how: str, given: WorkerKeywords, must_land: bool) -> Injection:
    return break_node(target(rig, given.which), how, hold=given.hold, for_=given.for_, must_land=must_land)


def _touch(how: str, given: WorkerKeywords) -> Touch:
    return touch_pod(how, hold=given.hold)


FAULT = FaultSpec(
    name=NAME,
    breaks="a worker, with its proxy and replicas",
    verbs=NODE_VERBS,
    keywords=WorkerKeywords,
    inject=_inject,
    expectations=EXPECTED,
    adapt=unless_away(with_profile),
    needs=NODE_NEEDS,
    external=_touch,
    loses=("worker", "Ray node", "replica"),
    target="chaos.worker(which)",
    effect="a worker with its proxy and replicas; it starts again",
    dry_run=True,
    predict=node_rules.worker,
)
