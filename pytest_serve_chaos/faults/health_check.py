"""The fault `health_check_failure`: the health check of one replica raises or hangs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from pytest_serve_chaos import clock
from pytest_serve_chaos.cluster.capabilities import SETS_HEALTH_FLAGS, SHOWS_CONTROLLER_LOG
from pytest_serve_chaos.cluster.policy import Touch
from pytest_serve_chaos.cluster.rest import seconds_of
from pytest_serve_chaos.faults.actors import ON, choose_component, deployment_of
from pytest_serve_chaos.faults.fault import Strike
from pytest_serve_chaos.faults.injection import Injection
from pytest_serve_chaos.faults.rig import Rig
from pytest_serve_chaos.faults.spec import FaultSpec, Need, keyword
from pytest_serve_chaos.kinds import Choice, DeploymentName
from pytest_serve_chaos.model import Component, Evidence, Expectations
from pytest_serve_chaos.prediction import serve_rules

NAME = "health_check_failure"
DEPLOYMENT = DeploymentName()
Mode = Literal["raise", "hang"]


@dataclass
class HealthCheckFails:
    """The health check of one replica raises, or hangs."""

    rig: Rig
    victim: Component
    mode: Mode
    kind: str = NAME
    serves: bool = True
    heals_at_once: ClassVar[bool] = True

    @property
    def options(self) -> Mapping[str, object]:
        """How the check fails, and of which deployment the replica is."""
        return {"how": "fail_health_check", "mode": self.mode, **deployment_of(self.victim)}

    @property
    def victims(self) -> tuple[Component, ...]:
        """The replica."""
        return (self.victim,)

    @property
    def sick(self) -> tuple[Component, ...]:
        """The replica, which lives until the controller has seen its check fail often enough."""
        return (self.victim,)

    @property
    def text(self) -> str:
        """A description of the fault, for people."""
        return f"the health check of the {self.victim.name} (PID {self.victim.pid}) {self.mode}s"

    @property
    def sign_within(self) -> float:
        """The third failure: REPLICA_HEALTH_CHECK_UNHEALTHY_THRESHOLD of ray/serve/_private/constants.py, and room.

        The periods are those of its deployment, where Serve says them.
        """
        serve, profile = self.rig.watcher.report.serve, self.rig.timing
        own = {} if serve is None else serve.options.get(self.victim.deployment or "", {})
        period = seconds_of(own, "health_check_period_s", profile.health_check_period)
        timeout = seconds_of(own, "health_check_timeout_s", profile.health_check_timeout)
        return 3 * (period + timeout) + 10.0

    def strike(self) -> Strike:
        """Sets the flag."""
        cluster = self.rig.capability(SETS_HEALTH_FLAGS, "make a health check fail")
        asked = clock.now()
        # Its replica is replaced after three failures: what comes later than that is another one.
        cluster.set_health_flag(self.victim, self.mode, lasts=2 * self.sign_within)
        return Strike(asked, (Evidence(clock.now(), "victim", f"its check_health {self.mode}s from now on"),))

    def sign(self, struck: float) -> Evidence | None:
        """The controller's log says that the check of this replica failed."""
        cluster = self.rig.capability(SHOWS_CONTROLLER_LOG, "show the controller's log")
        name = (self.victim.replica or "").rpartition("#")[2]
        pattern = rf"(?i)(health.?check.*{name}|{name}.*health.?check)"
        lines = cluster.controller_log(pattern=pattern, since=struck) if name else ()
        return Evidence(clock.now(), "cluster", lines[0][:300]) if lines else None

    def heal(self) -> None:
        """Removes the flag."""
        self.rig.capability(SETS_HEALTH_FLAGS, "repair a health check").clear_health_flag(self.victim)


def fail_health_check(rig: Rig, victim: Component, mode: Mode, *, must_land: bool) -> Injection:
    """Makes the health check of a replica raise or hang."""
    return Injection(rig, HealthCheckFails(rig, victim, mode), must_land=must_land)


# -- the fault ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class HealthCheckKeywords:
    """What its marker can say."""

    deployment: str | None = keyword(DEPLOYMENT, None)
    on: str | None = keyword(ON, None)
    mode: Mode = keyword(Choice("raise", "hang"), "raise")


def _inject(rig: Rig, how: str, given: HealthCheckKeywords, must_land: bool) -> Injection:
    victim = choose_component(rig, "replica", on=given.on, deployment=given.deployment)
    return fail_health_check(rig, victim, given.mode, must_land=must_land)


def _touch(how: str, given: HealthCheckKeywords) -> Touch:
    return Touch(actions=("run in pods",), deployment=given.deployment or "", health_flags=True)


FAULT = FaultSpec(
    name=NAME,
    breaks="the health check of a replica",
    verbs=("fail_health_check",),
    keywords=HealthCheckKeywords,
    inject=_inject,
    expectations=Expectations(
        replaced=("replica@victims",), kept=("head", "gcs", "controller", "proxy", "replica@others")
    ),
    needs=(
        Need((SETS_HEALTH_FLAGS,), "make a health check fail"),
        Need((SHOWS_CONTROLLER_LOG,), "show the controller's log"),
    ),
    external=_touch,
    loses=("replica",),
    target="chaos.replica(deployment)",
    effect="the health check of one replica",
    dry_run=True,
    predict=serve_rules.health_check,
)
