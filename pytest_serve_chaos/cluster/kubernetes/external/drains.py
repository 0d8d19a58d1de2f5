"""Drains nodes under an external RayService, and uncordons them again, at the latest when the cluster is closed."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_serve_chaos import clock
from pytest_serve_chaos.clock import NotYet
from pytest_serve_chaos.cluster.base import Progress
from pytest_serve_chaos.cluster.kubernetes.client.drain import EVICTED_WITHIN, cordon, evict_all, reopen
from pytest_serve_chaos.cluster.kubernetes.client.records import mapped, text
from pytest_serve_chaos.cluster.kubernetes.external.admission import Admission
from pytest_serve_chaos.cluster.kubernetes.external.recorded_faults import UndoRecords
from pytest_serve_chaos.cluster.kubernetes.rayservice.machine_faults import TakenMachines
from pytest_serve_chaos.cluster.kubernetes.rayservice.view import RayServiceView
from pytest_serve_chaos.errors import CommandFailed, NoSuchTarget
from pytest_serve_chaos.model import Evidence

_DRAIN = "drain"
_OPENED_WITHIN = 45.0
"""Seconds to uncordon a drained node at the end, if healing could not; after that the user has to do it by hand."""


class ExternalDrains:
    """Drains Kubernetes nodes as far as the policy allows. Has the capability `DrainsMachines`.

    Args:
        view: The RayService.
        admission: Says what may be drained.
        records: Where a cordon is on record.
        progress: Prints a line about a drained node that is not uncordoned.
    """

    def __init__(self, view: RayServiceView, admission: Admission, records: UndoRecords, progress: Progress) -> None:
        self._api = view.api
        self._pods = view.pods
        self._removals = view.removals
        self._admission = admission
        self._records = records
        self._progress = progress
        self._drained = TakenMachines()

    def drain_machine(self, name: str) -> Sequence[Evidence]:
        """Cordons the Kubernetes node under a Ray node and evicts this RayService's pods from it; waits for their end.

        Raises:
            Unsupported: The user did not allow it, or has no right to it, or too much of the RayService is on it, or
                no fault was admitted that does it.
            NoSuchTarget: The Ray node is not running, or its Kubernetes node is cordoned already, by somebody else.
            CommandFailed: It was refused.
            WaitTimeout: A PodDisruptionBudget did not allow it in time, or they did not go in their grace period.
        """
        # Before anything is on record: what was never cordoned must not be uncordoned by a later run.
        self._admission.admit_drain()
        machine = self._pods.running(name).node
        item = self._api.nodes.read(machine)
        if mapped(item.get("spec")).get("unschedulable"):
            raise NoSuchTarget(f"{machine} is cordoned already, so the plugin does not drain it")
        pods = [(n, pod) for n, pod, _ in self._pods.live_named() if pod.node == machine]
        self._admission.admit_company(name, [n for n, _ in pods])
        watches = [self._removals.of(n, pod) for n, pod in pods]
        self._records.cordoned(machine, text(mapped(item.get("metadata")), "uid"))
        self._drained.take(_DRAIN, name, machine)
        cordon(self._api, machine, note=self._records.note or None)
        evict_all(self._api, [pod for _, pod in pods], within=EVICTED_WITHIN)
        return [sign for watch in watches for sign in watch.evidence(by_force=False)]

    def reopen_machine(self, name: str) -> None:
        """Uncordons the node, unless somebody else has cordoned it meanwhile."""
        self._drained.give_back(_DRAIN, name, self._open)

    def close(self) -> None:
        """Lets pods onto the nodes that could not be opened when their drain was healed.

        Raises:
            WaitTimeout: One cannot be opened now either.
        """

        def opened() -> bool | NotYet:
            try:
                self._drained.give_all_back(_DRAIN, self._open)
            except CommandFailed as error:
                return NotYet(error.what)
            return True

        left = ", ".join(self._drained.left(_DRAIN))
        clock.wait_until(
            f"the cordon of {left} to be removed", opened, timeout=_OPENED_WITHIN, interval=2.0,
            fix=[f"run `serve-chaos undo`, or `kubectl uncordon` those of {left} that are still cordoned"],
        )  # fmt: skip

    def _open(self, machine: str) -> None:
        left = reopen(self._api, machine)
        if left:
            self._progress(f"kubernetes: {left}")
        self._records.uncordoned(machine)
