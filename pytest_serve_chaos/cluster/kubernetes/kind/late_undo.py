"""Undoes changes of Kubernetes objects of a kind cluster, if the run that made them is gone."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence

from pytest_serve_chaos.cluster.kubernetes import names
from pytest_serve_chaos.cluster.kubernetes.client.records import name_of
from pytest_serve_chaos.cluster.watchdog import LONGEST_CHANGE, Watchdogs
from pytest_serve_chaos.model import Json

_KUBECTL = ("kubectl", "--kubeconfig=/etc/kubernetes/admin.conf")
"""On the control plane, which no fault touches: so neither a kubeconfig nor a port of this machine is needed."""
_CREATE = shlex.join(_KUBECTL) + " create -f -"
_NO_NOTE = f"{names.UNDO}-"


class KindLateUndo:
    """Implements `kubernetes.machines.LateUndo` by watchdogs on this machine, which run docker.

    They outlive the run, and act 30 s after its process is gone, or after a day.

    Args:
        watchdogs: Those of these nodes.
        docker: The program docker, as a path.
        control_plane: The node for all that no fault touches.
    """

    def __init__(self, watchdogs: Watchdogs, docker: str, control_plane: str) -> None:
        self._watchdogs = watchdogs
        self._docker = docker
        self._control_plane = control_plane

    def of_taint(self, taint: str) -> None:
        """Will remove a taint from all nodes for Ray."""
        nodes = ("nodes", "--selector", f"{names.ROLE}=ray")
        self._arrange(taint, self._control_plane, self._kubectl("taint", *nodes, f"{taint}:NoSchedule-"))

    def of_cordon(self, node: str) -> None:
        """Will let pods onto a node again."""
        uncordon = self._kubectl("uncordon", node)
        self._arrange("cordoned", node, uncordon, self._kubectl("annotate", "node", node, _NO_NOTE))

    def of_deletion(self, registration: Mapping[str, Json]) -> None:
        """Will register a node again as it was, and start its kubelet."""
        node = name_of(registration)
        create = ("exec", self._control_plane, "sh", "-c", f'printf %s "$0" | {_CREATE}', json.dumps(registration))
        self._arrange("deleted", node, create, ("exec", node, "systemctl", "restart", "kubelet"))

    def of_scaling(self, workload: str, namespace: str, replicas: int) -> None:
        """Will have a workload want so many pods again."""
        there = ("--namespace", namespace, workload)
        scale = self._kubectl("scale", *there, f"--replicas={replicas}")
        self._arrange(workload, self._control_plane, scale, self._kubectl("annotate", *there, _NO_NOTE))

    def not_needed(self, what: str) -> None:
        """The change of that taint, node or workload is undone."""
        claims = {f"{word}:{what}" for word in ("cordoned", "deleted")} | {_claim(what, self._control_plane)}
        self._watchdogs.end_of_all_runs(claims.__contains__)

    def _kubectl(self, *arguments: str) -> tuple[str, ...]:
        return ("exec", self._control_plane, *_KUBECTL, *arguments)

    def _arrange(self, what: str, node: str, *steps: Sequence[str]) -> None:
        script = "; ".join(shlex.join((self._docker, *step)) for step in steps)
        command = ("/bin/sh", "-c", script)
        self._watchdogs.watch(_claim(what, node), None, longest=LONGEST_CHANGE, command=command, owned=True)


def _claim(what: str, node: str) -> str:
    """Of two changes of the same thing the later one counts."""
    return f"{''.join(letter if letter.isalnum() else '_' for letter in what)}:{node}"
