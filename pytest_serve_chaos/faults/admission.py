"""Whether a cluster may be changed now: what an external one admits, and what its owner has done to it meanwhile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_serve_chaos.cluster.capabilities import IS_EXTERNAL, KILLS_ACTORS, SEES_PROCESSES
from pytest_serve_chaos.cluster.total_loss import leaves_none
from pytest_serve_chaos.errors import ObservationError, OwnerChangedIt, Unsupported
from pytest_serve_chaos.events import OwnerChanged
from pytest_serve_chaos.model import Component
from pytest_serve_chaos.observe.healthy import healthy

if TYPE_CHECKING:
    from pytest_serve_chaos.faults.rig import Rig


def admit(
    rig: Rig, kind: str, options: Mapping[str, object], victims: Sequence[Component] = (), *, heals: bool = False
) -> None:
    """What every fault passes before anything is changed, whether a marker names it or a test injects it by hand.

    Args:
        rig: The cluster that would be changed.
        kind: The name of the fault's marker.
        options: What the marker would say.
        victims: What it hits; none: that is not chosen yet.
        heals: Whether that repairs what the run has broken.

    Raises:
        SettingsError: There is no such fault, or its marker cannot say that.
        Unsupported: The cluster is external, and it cannot or must not be broken in that way.
    """
    external = rig.cluster.capability(IS_EXTERNAL)
    if external is not None and kind not in rig.run.faults:
        raise Unsupported(
            f"{kind} is a fault of the test itself, and the plugin does not know what it does to this cluster"
        )
    if external is None:
        return
    touch = rig.run.faults.choose(kind, options).touch()
    allowed = touch.allow_total_loss or rig.current.total_loss_allowed
    touch = replace(touch, victims=tuple(victims), allow_total_loss=allowed)
    external.admit(touch, rig.current.asked_for, heals=heals)
    if not victims:
        return
    sight = rig.cluster.capability(SEES_PROCESSES)
    unseen = () if sight is None or touch.allow_total_loss else tuple(sight.unseen())
    if unseen:
        raise Unsupported(f"it is unknown what would be left: {'; '.join(unseen)}")
    well = healthy(rig.watcher.sample(), rig.watcher.report, rig.injections.broken)
    reason = leaves_none(touch, well)
    if reason:
        raise Unsupported(reason)


def kill_replica(rig: Rig, replica: Component, *, allow_total_loss: bool = False, heals: bool = False) -> None:
    """Kills a replica that a check replaces. Arguments and errors: those of `admit_replacing`."""
    actors = rig.capability(KILLS_ACTORS, "kill actors")
    admit_replacing(rig, replica, allow_total_loss=allow_total_loss, heals=heals)
    actors.kill_actor(replica.actor_id or "", no_restart=True)


def admit_replacing(rig: Rig, replica: Component, *, allow_total_loss: bool = False, heals: bool = False) -> None:
    """What a check replaces is as much of a loss to an external cluster as what a fault takes.

    Args:
        rig: The cluster.
        replica: The replica.
        allow_total_loss: Whether it may be the last one.
        heals: Whether the check belongs to the repair of what the run has broken.

    Raises:
        OwnerChangedIt: The owner of the cluster has changed it.
        Unsupported: It must not be killed, or cannot.
    """
    require_its_owner_left_it_alone(rig)
    with rig.current.allowing_total_loss(allow_total_loss):
        admit(rig, "replica_failure", {"how": "kill", "deployment": replica.deployment}, (replica,), heals=heals)


def owner_change(rig: Rig) -> str:
    """What the owner of an external cluster has done to it meanwhile, which taints it; "" if nothing.

    What cannot be looked at now is not tainted: the next look may tell.
    """
    external = rig.cluster.capability(IS_EXTERNAL)
    if external is None:
        return ""
    try:
        change = external.owner_change()
    except ObservationError as error:
        return f"it is unknown whether its owner changed it: {error.what}"
    text = f"its owner changed it: {change}" if change else ""
    if text:
        rig.soundness.taint(text)
    return text


def look_at_its_owner(rig: Rig) -> str:
    """The same for what runs now, whose verdict it decides."""
    text = owner_change(rig)
    if text:
        rig.log.add(OwnerChanged(text))
    return text


def require_its_owner_left_it_alone(rig: Rig) -> None:
    """Refuses a change of a cluster that is not the one any more to which the plugin connected.

    Raises:
        OwnerChangedIt: It is not, or nobody can say.
    """
    text = look_at_its_owner(rig)
    if text:
        raise OwnerChangedIt(
            f"{text}, so the plugin leaves it alone",
            checked=["the RayService: its UID, its generation, and the RayClusters in its status"],
            fix=["run the test again when its owner is done"],
        )
