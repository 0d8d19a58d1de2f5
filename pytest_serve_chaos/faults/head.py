"""The fault `head_failure`: the head goes, with the GCS, the controller and its proxy."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_serve_chaos.cluster.policy import Touch, touch_pod
from pytest_serve_chaos.faults.defaults import unless_away, without_head
from pytest_serve_chaos.faults.injection import Injection
from pytest_serve_chaos.faults.nodes import NODE_NEEDS, NODE_VERBS, NodeTarget, break_node
from pytest_serve_chaos.faults.rig import Rig
from pytest_serve_chaos.faults.spec import FaultSpec, away_for, hold
from pytest_serve_chaos.model import HEAD, Expectations
from pytest_serve_chaos.prediction import node_rules

NAME = "head_failure"
EXPECTED = Expectations(
    replaced=("head", "gcs", "controller", "proxy@head"),
    kept=("worker", "replica@workers", "proxy@workers"),
)


@dataclass(frozen=True)
class HeadKeywords:
    """What its marker can say."""

    hold: bool = hold()
    for_: float | None = away_for()


def target(rig: Rig) -> NodeTarget:
    """The head: ``chaos.head``."""
    return NodeTarget(rig, NAME, HEAD)


def _inject(rig: Rig, how: str, given: HeadKeywords, must_land: bool) -> Injection:
    return break_node(target(rig), how, hold=given.hold, for_=given.for_, must_land=must_land)


def _touch(how: str, given: HeadKeywords) -> Touch:
    return touch_pod(how, hold=given.hold)


FAULT = FaultSpec(
    name=NAME,
    breaks="the head, with GCS, controller and its proxy",
    verbs=NODE_VERBS,
    keywords=HeadKeywords,
    inject=_inject,
    expectations=EXPECTED,
    adapt=unless_away(without_head),
    needs=NODE_NEEDS,
    external=_touch,
    loses=("head", "Ray node"),
    target="chaos.head",
    effect="the head: GCS, controller and proxy",
    dry_run=True,
    predict=node_rules.head,
)
