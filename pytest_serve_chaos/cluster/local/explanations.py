"""What a call of a local cluster's capabilities does: signals to processes of this machine, for a dry run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from signal import SIGSTOP, Signals

from pytest_serve_chaos.cluster.dry_run import Explanations, Step
from pytest_serve_chaos.cluster.local import processes
from pytest_serve_chaos.cluster.local.redis import REDIS
from pytest_serve_chaos.cluster.local.view import LocalView
from pytest_serve_chaos.cluster.watchdog import expiry
from pytest_serve_chaos.model import Component, Identity, Json

_MOST_PIDS = 12


class LocalExplanations(Explanations):
    """Explains what would be done to a local cluster. Has the capability `ExplainsChanges`.

    Args:
        view: The cluster.
    """

    def __init__(self, view: LocalView) -> None:
        self._view = view

    def kill_node(self, name: str, how: str, hold: bool) -> Sequence[Step]:
        """Signals to all processes of the node's session."""
        grace = self._view.plan.termination_grace
        signal = "SIGKILL" if how == "kill" else f"SIGTERM, and SIGKILL {grace:g} s later,"
        held = (Step(f"the supervisor does not start {name} again until it is healed"),) if hold else ()
        return (*held, Step(f"{signal} to {self._processes_of(name)}"))

    def kill_redis(self, how: str, hold: bool) -> Sequence[Step]:
        """The same for Redis."""
        return self.kill_node(REDIS, how, hold)

    def freeze_node(self, name: str, lasts: float | None = None) -> Sequence[Step]:
        """SIGSTOP to all of them, and a watchdog."""
        return (Step(f"SIGSTOP to {self._processes_of(name)}, and SIGCONT {expiry(lasts):g} s later"),)

    def signal_process(self, identity: Identity, signal: int, lasts: float | None = None) -> Sequence[Step]:
        """A signal to one process; with SIGSTOP a watchdog."""
        later = f", and SIGCONT {expiry(lasts):g} s later" if signal == SIGSTOP else ""
        return (Step(f"{Signals(signal).name} to PID {identity.pid} ({identity}){later}"),)

    def kill_actor(self, actor_id: str, no_restart: bool) -> Sequence[Step]:
        """A program that does it."""
        return (Step(f"a program calls ray.kill(no_restart={no_restart}) for actor {actor_id}"),)

    def set_health_flag(self, replica: Component, mode: str, lasts: float | None = None) -> Sequence[Step]:
        """A file that the replica reads."""
        flag = Path(self._view.plan.directory) / "flags" / str(replica.pid)
        return (Step(f"write {mode!r} to {flag}, which the health check of that replica reads{_for(lasts)}"),)

    def apply_serve_config(self, config: Mapping[str, Json]) -> Sequence[Step]:
        """A request to the head."""
        del config
        return (Step(f"PUT {self._view.dashboard.url}/api/serve/applications/"),)

    def _processes_of(self, name: str) -> str:
        session = self._view.link.units()[name].session
        pids = sorted(process.pid for process in processes.in_sessions({session}))
        shown = ", ".join(map(str, pids[:_MOST_PIDS]))
        more = f" and {len(pids) - _MOST_PIDS} more" if len(pids) > _MOST_PIDS else ""
        return f"all {len(pids)} processes of {name}, of session {session} (PIDs {shown}{more})"


def _for(lasts: float | None) -> str:
    """How long something is to last, where its call says that."""
    return "" if lasts is None else f", for {lasts:g} s"
