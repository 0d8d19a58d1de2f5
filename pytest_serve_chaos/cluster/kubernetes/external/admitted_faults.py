"""Faults on processes of an external RayService that hit nothing but the victims of the fault that was admitted last.

So a test that has the cluster itself can do no more than by a fault.
"""

from __future__ import annotations

from dataclasses import dataclass
from signal import SIGCONT
from typing import Literal

from pytest_serve_chaos.cluster.capabilities import KillsActors, SetsHealthFlags, SignalsProcesses
from pytest_serve_chaos.cluster.kubernetes.external.admission import Admission
from pytest_serve_chaos.model import Component, Identity


@dataclass(frozen=True, slots=True)
class AdmittedSignals:
    """Sends signals to processes in pods. Has the capability `SignalsProcesses`.

    Attributes:
        signals: Sends them.
        admission: Says which processes may be hit.
    """

    signals: SignalsProcesses
    admission: Admission

    def signal_process(self, identity: Identity, signal: int, *, lasts: float | None = None) -> None:
        """Sends the signal; SIGCONT, which heals, to any process.

        Raises:
            Unsupported: It is not a victim of the fault that was admitted.
        """
        if signal != SIGCONT:
            self.admission.admit_signal(identity)
        self.signals.signal_process(identity, signal, lasts=lasts)


@dataclass(frozen=True, slots=True)
class AdmittedFlags:
    """Sets health flags. Has the capability `SetsHealthFlags`.

    Attributes:
        flags: Sets them.
        admission: Says which replicas may be hit.
    """

    flags: SetsHealthFlags
    admission: Admission

    def set_health_flag(
        self, replica: Component, mode: Literal["raise", "hang"], *, lasts: float | None = None
    ) -> None:
        """Writes the flag.

        Raises:
            Unsupported: The replica is not a victim of the fault that was admitted.
        """
        self.admission.admit_signal(replica.identity)
        self.flags.set_health_flag(replica, mode, lasts=lasts)

    def clear_health_flag(self, replica: Component) -> None:
        """Removes the flag."""
        self.flags.clear_health_flag(replica)


@dataclass(frozen=True, slots=True)
class AdmittedActorKills:
    """Kills actors. Has the capability `KillsActors`.

    Attributes:
        kills: Kills them.
        admission: Says which may be hit.
    """

    kills: KillsActors
    admission: Admission

    def kill_actor(self, actor_id: str, *, no_restart: bool) -> float:
        """Kills an actor; returns when, monotonic seconds.

        Raises:
            Unsupported: It is not a victim of the fault that was admitted.
        """
        self.admission.admit_kill(actor_id)
        return self.kills.kill_actor(actor_id, no_restart=no_restart)
