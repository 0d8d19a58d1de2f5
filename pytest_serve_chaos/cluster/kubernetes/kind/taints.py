"""Taints on the nodes for Ray."""

from __future__ import annotations

from pytest_serve_chaos.cluster.kubernetes import names
from pytest_serve_chaos.cluster.kubernetes.install.stack import Kubectl


class NodeTaints:
    """Makes the nodes for Ray refuse pods; implements `kubernetes.machines.Taints`.

    Args:
        kubectl: Runs kubectl against the cluster.
    """

    def __init__(self, kubectl: Kubectl) -> None:
        self._kubectl = kubectl

    def keep_away(self, taint: str) -> None:
        """No node for Ray takes a new pod any more that does not tolerate that taint.

        Raises:
            CommandFailed: kubectl failed.
        """
        self._kubectl("taint", "nodes", "-l", f"{names.ROLE}=ray", f"{taint}=held:NoSchedule", "--overwrite")

    def let_back(self, taint: str) -> None:
        """Takes the taint away from all nodes that have it.

        Raises:
            CommandFailed: kubectl failed.
        """
        keys = 'jsonpath={range .items[*]}{.metadata.name}{" "}{.spec.taints[*].key}{"\\n"}{end}'
        for line in self._kubectl("get", "nodes", "-o", keys).splitlines():
            node, *found = line.split() or [""]
            if taint in found:
                self._kubectl("taint", "nodes", node, f"{taint}:NoSchedule-")
