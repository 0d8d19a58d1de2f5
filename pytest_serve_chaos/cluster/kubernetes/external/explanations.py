"""What a call of an external RayService's capabilities does, and what its user must be allowed for it."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_serve_chaos.cluster.dry_run import Step
from pytest_serve_chaos.cluster.kubernetes.external.policy import needed
from pytest_serve_chaos.cluster.kubernetes.rayservice.explanations import PodExplanations, drain
from pytest_serve_chaos.cluster.kubernetes.rayservice.view import RayServiceView
from pytest_serve_chaos.cluster.policy import Touch
from pytest_serve_chaos.model import Component

_KNOCK = "EXEC in another pod of its RayCluster: knock, which looks whether the address of the pod still answers"


class ExternalExplanations(PodExplanations):
    """Explains what would be done to an external RayService. Has the capability `ExplainsChanges`.

    Args:
        view: The RayService.
    """

    def __init__(self, view: RayServiceView) -> None:
        super().__init__(view, undo_pod="tidy_pod: what is stopped, or flagged, in pods/{}".format)

    def rights(self, touch: Touch) -> Sequence[str]:
        """What the user must be allowed for it."""
        return tuple(str(right) for right in needed(touch))

    def kill_node(self, name: str, how: str, hold: bool) -> Sequence[Step]:
        """The deletion of its pod; what went by force is looked for from another pod."""
        steps = super().kill_node(name, how, hold)
        return (*steps, Step(_KNOCK)) if how == "kill" else steps

    def stale_after(self, controller: Component, proxies: Sequence[Component]) -> Sequence[Step]:
        """A mark in the pod of each proxy that will not hear the controller which follows this one."""
        del controller
        pods = {pod.uid: pod for pod in (self._pods.with_process(proxy.identity) for proxy in proxies)}
        undo = "replace_stale_proxies: the proxies that do not hear the next controller"
        marks = [self._program(pod, "stale", "mark").text for pod in pods.values()]
        return [Step(mark, undo) for mark in marks]

    def drain_machine(self, name: str) -> Sequence[Step]:
        """A cordon, and evictions of this RayService's pods."""
        machine = self._pods.running(name).node
        pods = [pod for _, pod, _ in self._pods.live_named() if pod.node == machine]
        return drain(machine, pods, self._where, f"uncordon_node: nodes/{machine}")
