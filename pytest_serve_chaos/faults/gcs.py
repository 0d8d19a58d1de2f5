"""The fault `gcs_failure`: `gcs_server` is killed, stopped or frozen; the head goes with it."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import dataclass

from pytest_serve_chaos import clock
from pytest_serve_chaos.clock import NotYet, seconds
from pytest_serve_chaos.cluster.capabilities import SIGNALS_PROCESSES
from pytest_serve_chaos.cluster.policy import Touch
from pytest_serve_chaos.errors import WaitTimeout
from pytest_serve_chaos.faults import head, signs
from pytest_serve_chaos.faults.actors import ActorFrozen, choose_component
from pytest_serve_chaos.faults.defaults import FREEZE_FOR, unless_frozen, without_head
from pytest_serve_chaos.faults.fault import Strike
from pytest_serve_chaos.faults.injection import Injection
from pytest_serve_chaos.faults.rig import Rig
from pytest_serve_chaos.faults.spec import FaultSpec, Need, freeze_for
from pytest_serve_chaos.model import HEAD, Component, Evidence
from pytest_serve_chaos.prediction import node_rules

NAME = "gcs_failure"

_DIES_WITHIN = 15.0
_STOPS_WITHIN = 90.0
"""Seconds: after SIGTERM `gcs_server` stays for 61 s, in which it serves nobody (measured with Ray 2.60)."""


@dataclass
class GcsKilled:
    """`gcs_server` gets a signal; `ray start --block` then takes the head down, and it is started again."""

    rig: Rig
    victim: Component
    number: int
    kind: str = NAME
    serves: bool = False
    sick: tuple[Component, ...] = ()
    sign_within: float = 75.0
    silent: Evidence | None = None

    @property
    def options(self) -> Mapping[str, object]:
        """With which signal it ends."""
        return {"how": "stop" if self.number == signal.SIGTERM else "kill"}

    @property
    def victims(self) -> tuple[Component, ...]:
        """The GCS, and the head that goes with it."""
        return tuple(c for c in self.rig.watcher.topology.components if c.node == HEAD) or (self.victim,)

    @property
    def text(self) -> str:
        """A description of the fault, for people."""
        return f"{signal.Signals(self.number).name} to gcs_server (PID {self.victim.pid})"

    def strike(self) -> Strike:
        """Sends the signal and waits until the process is gone."""
        cluster = self.rig.capability(SIGNALS_PROCESSES, "send signals to processes")
        asked, stops = clock.now(), self.number == signal.SIGTERM
        cluster.signal_process(self.victim.identity, self.number)

        def gone() -> Evidence | NotYet:
            if self.rig.watcher.sample().find(self.victim.identity) is not None:
                if stops and self.silent is None:
                    self.silent = signs.gcs_is_silent(self.rig)  # before it goes: soon after, the next one answers
                return NotYet("gcs_server is there")
            return Evidence(clock.now(), "victim", f"gcs_server (PID {self.victim.pid}) is gone")

        # What is killed went just now; what stops is a minute about it, in which looking often takes from the traffic.
        within, interval = (_STOPS_WITHIN, 0.2) if stops else (_DIES_WITHIN, 0.02)
        try:
            sign = clock.wait_until("gcs_server to go", gone, timeout=self.rig.sign_within(within), interval=interval)
        except WaitTimeout:
            return Strike(asked, ())
        # From SIGTERM on it serves nobody: that is when it was struck, though it stays for a minute.
        stopped = Evidence(asked, "victim", f"gcs_server (PID {self.victim.pid}) was asked to stop")
        return Strike(asked, (stopped, sign), sign.at) if stops else Strike(asked, (sign,))

    def sign(self, struck: float) -> Evidence | None:
        """The state API, which asks the GCS, does not answer; or the head went, as it does without its GCS."""
        return self.silent or signs.gcs_is_silent(self.rig)

    def heal(self) -> None:
        """The head is started again by the platform."""


class GcsFrozen(ActorFrozen):
    """`gcs_server` is stopped for a while."""

    def sign(self, struck: float) -> Evidence | None:
        """The state API does not answer."""
        return signs.gcs_is_silent(self.rig)


@dataclass(frozen=True)
class GcsTarget:
    """The GCS: ``chaos.gcs``."""

    rig: Rig
    victim: Component

    def kill(self, *, must_land: bool = True, allow_total_loss: bool = False) -> Injection:
        """SIGKILL to `gcs_server`.

        Raises:
            NotLanded: Nothing shows that it died, and it must (`must_land`).
        """
        with self.rig.current.allowing_total_loss(allow_total_loss):
            return Injection(self.rig, GcsKilled(self.rig, self.victim, signal.SIGKILL), must_land=must_land)

    def stop(self, *, must_land: bool = True, allow_total_loss: bool = False) -> Injection:
        """SIGTERM to `gcs_server`: the head stays some 60 s without one, then goes.

        Raises:
            NotLanded: Nothing shows that it ended, and it must (`must_land`).
        """
        with self.rig.current.allowing_total_loss(allow_total_loss):
            return Injection(self.rig, GcsKilled(self.rig, self.victim, signal.SIGTERM), must_land=must_land)

    def freeze(
        self, for_: float | str = FREEZE_FOR, *, must_land: bool = True, allow_total_loss: bool = False
    ) -> Injection:
        """SIGSTOP for so many seconds.

        Raises:
            NotLanded: Nothing shows that it stands still, and it must (`must_land`).
        """
        hold_for = seconds(for_, name="for_")
        fault = GcsFrozen(self.rig, NAME, self.victim, lasts=hold_for)
        with self.rig.current.allowing_total_loss(allow_total_loss):
            return Injection(self.rig, fault, hold_for=hold_for, must_land=must_land)


# -- the fault ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class GcsKeywords:
    """What its marker can say."""

    for_: float = freeze_for()


def target(rig: Rig) -> GcsTarget:
    """The GCS: ``chaos.gcs``."""
    return GcsTarget(rig, choose_component(rig, "gcs"))


def _inject(rig: Rig, how: str, given: GcsKeywords, must_land: bool) -> Injection:
    gcs = target(rig)
    if how == "freeze":
        return gcs.freeze(given.for_, must_land=must_land)
    return (gcs.kill if how == "kill" else gcs.stop)(must_land=must_land)


def _touch(how: str, given: GcsKeywords) -> Touch:
    return Touch(actions=("run in pods",))


FAULT = FaultSpec(
    name=NAME,
    breaks="the GCS process",
    verbs=("kill", "stop", "freeze"),
    keywords=GcsKeywords,
    inject=_inject,
    expectations=head.EXPECTED,
    adapt=unless_frozen(without_head),
    needs=(Need((SIGNALS_PROCESSES,), "send signals to processes"),),
    external=_touch,
    loses=("head", "head container"),
    target="chaos.gcs",
    effect="the GCS, and the head with it",
    dry_run=True,
    predict=node_rules.gcs,
)
