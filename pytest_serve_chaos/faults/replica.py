"""The fault `replica_failure`: one replica of a deployment is killed or frozen."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from pytest_serve_chaos.cluster.policy import Touch
from pytest_serve_chaos.faults.actors import ON, SERVING_NEEDS, By, ServingTarget, break_serving, by, choose_component
from pytest_serve_chaos.faults.child import ChildTarget
from pytest_serve_chaos.faults.defaults import unless_frozen, with_profile
from pytest_serve_chaos.faults.health_check import DEPLOYMENT, Mode, fail_health_check
from pytest_serve_chaos.faults.injection import Injection
from pytest_serve_chaos.faults.rig import Rig
from pytest_serve_chaos.faults.signs import requests_that_show_silence
from pytest_serve_chaos.faults.spec import FaultSpec, freeze_for, keyword
from pytest_serve_chaos.model import Expectations, Topology
from pytest_serve_chaos.prediction import serve_rules

NAME = "replica_failure"


@dataclass(frozen=True)
class ReplicaTarget(ServingTarget):
    """A replica."""

    def child(self, name: str | None = None) -> ChildTarget:
        """What it has started itself, such as an inference engine.

        Args:
            name: A regular expression that is found in the name or the command line of each process that is meant;
                None: every process below the replica.
        """
        return ChildTarget(self.rig, self.victim, name)

    def fail_health_check(
        self, mode: Mode = "raise", *, must_land: bool = True, allow_total_loss: bool = False
    ) -> Injection:
        """Makes its `check_health` raise or hang, where the app reads our flag (`apps.answers.HealthSwitch`).

        Raises:
            NotLanded: The controller saw no check fail, and it must (`must_land`).
        """
        with self.rig.current.allowing_total_loss(allow_total_loss):
            return fail_health_check(self.rig, self.victim, mode, must_land=must_land)


# -- the fault ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ReplicaKeywords:
    """What its marker can say."""

    deployment: str | None = keyword(DEPLOYMENT, None)
    on: str | None = keyword(ON, None)
    by: By = by()
    for_: float = freeze_for()


def target(rig: Rig, deployment: str | None, on: str | None) -> ReplicaTarget:
    """A replica: ``chaos.replica(deployment, on=...)``."""
    return ReplicaTarget(rig, NAME, choose_component(rig, "replica", on=on, deployment=deployment))


def _inject(rig: Rig, how: str, given: ReplicaKeywords, must_land: bool) -> Injection:
    replica = target(rig, given.deployment, given.on)
    return break_serving(replica, how, by=given.by, for_=given.for_, must_land=must_land)


def _touch(how: str, given: ReplicaKeywords) -> Touch:
    return Touch(actions=("run in pods",), deployment=given.deployment or "")


def _not_shown(topology: Topology, rate: float, how: str, given: ReplicaKeywords) -> Iterator[str]:
    """A replica that stands still is seen by the answers that others give in its place."""
    if how != "freeze":
        return
    replicas = topology.of("replica", deployment=given.deployment)
    needed = requests_that_show_silence(len(replicas))
    if rate * given.for_ < needed:
        yield (
            f"{rate * given.for_:.0f} requests in {given.for_:g} s cannot show that one of {len(replicas)} replicas"
            f" stands still: that takes {needed}. Freeze it for {math.ceil(needed / rate)} s or more, or send"
            f" {needed / given.for_:.3g} requests a second"
        )


FAULT = FaultSpec(
    name=NAME,
    breaks="a replica",
    verbs=("kill", "freeze"),
    keywords=ReplicaKeywords,
    inject=_inject,
    expectations=Expectations(
        replaced=("replica@victims",), kept=("head", "gcs", "controller", "proxy", "replica@others")
    ),
    adapt=unless_frozen(with_profile),
    needs=SERVING_NEEDS,
    external=_touch,
    loses=("replica",),
    not_shown=_not_shown,
    target="chaos.replica(deployment)",
    effect="one replica",
    dry_run=True,
    predict=serve_rules.replica,
)
