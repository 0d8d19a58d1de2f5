"""What a fault does to a cluster that may be external, in terms that its policy can judge without knowing the fault."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pytest_serve_chaos.model import Component, Loss

Action = Literal["delete pods", "run in pods", "drain nodes"]
"""What can be done to an external cluster: all of it takes a right that its owner has given."""


@dataclass(frozen=True, slots=True)
class Touch:
    """What a fault does to a cluster. One that does nothing that is known is refused.

    Attributes:
        refused: Why it is never done to an external cluster; "" where the cluster's policy decides.
        actions: What the fault does, in words that the policy knows.
        loses: What it takes away; of a fault, what it takes away in addition to `FaultSpec.loses`.
        deployment: The deployment whose replicas it takes; "" for any.
        new_controller: Whether the controller comes back as a new actor, which replicas' handles may not hear.
        health_flags: Whether it takes an app that reads the plugin's health flags.
        victims: What it hits, once that is chosen.
        allow_total_loss: Whether the test says that nothing need be left of what it takes away.
    """

    refused: str = ""
    actions: tuple[Action, ...] = ()
    loses: tuple[Loss, ...] = ()
    deployment: str = ""
    new_controller: bool = False
    health_flags: bool = False
    victims: tuple[Component, ...] = ()
    allow_total_loss: bool = False


def touch_pod(how: str, *, hold: bool, loses: tuple[Loss, ...] = ()) -> Touch:
    """What is done to the pod of a Ray node that is killed, stopped or frozen."""
    if hold:
        return Touch(refused="KubeRay makes a new pod at once, so none can be kept down")
    if how == "freeze":
        return Touch(actions=("run in pods",), loses=loses)
    # What was deleted by force is proved to be gone by a knock at its address, from another pod.
    return Touch(actions=("delete pods",) if how == "stop" else ("delete pods", "run in pods"), loses=loses)
