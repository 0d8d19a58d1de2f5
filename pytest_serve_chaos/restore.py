"""After an experiment: checks that the cluster has its first shape again; otherwise it has to be rebuilt."""

from __future__ import annotations

from pytest_serve_chaos import clock
from pytest_serve_chaos.clock import NotYet
from pytest_serve_chaos.cluster.capabilities import REMEMBERS_CONNECTIONS
from pytest_serve_chaos.errors import ServeChaosError, WaitTimeout, in_one_line
from pytest_serve_chaos.events import Restored
from pytest_serve_chaos.faults.rig import Rig
from pytest_serve_chaos.progress import while_waiting

SHAPE_WITHIN = 90.0


def restore(rig: Rig) -> str:
    """Heals all that was injected, puts the Serve config back and waits for the first shape.

    Taints the cluster where it is not as it was.

    Returns:
        What the cluster lacked until the end of its first shape; "" if it has it, or if something else went wrong.
    """
    begun = clock.now()
    lacking = ""
    try:
        _put_back(rig)
    except WaitTimeout as error:
        rig.soundness.taint(error.what)
        lacking = error.what
    except ServeChaosError as error:
        rig.soundness.taint(error.what)
    except BaseException as error:
        rig.soundness.taint(f"it could not be restored: {in_one_line(error)}")
        raise
    tainted = rig.soundness.tainted
    text = f"not as before: {tainted}" if tainted else "as before"
    rig.log.add(Restored(text, seconds=clock.now() - begun))
    return lacking


def _put_back(rig: Rig) -> None:
    rig.heal_all()
    rig.health.expect(rig.health.first_shape)
    if rig.cluster.serve_config != rig.serve_config:
        rig.cluster.apply_serve_config(rig.serve_config)
    if rig.soundness.tainted:  # it will be rebuilt anyway
        return
    what = "the cluster to have its first shape again"
    shown = while_waiting(rig.progress, what)
    clock.wait_until(what, lambda: _restored(rig), timeout=SHAPE_WITHIN, on_wait=shown)
    network = rig.cluster.capability(REMEMBERS_CONNECTIONS)
    if network is not None:
        network.forget_connections()
    uneven = rig.health.imbalance(rig.watcher.topology)
    if uneven:
        rig.soundness.taint("; ".join(uneven))


def _restored(rig: Rig) -> bool | NotYet:
    wrong = rig.health.wrong()
    return NotYet("; ".join(wrong)) if wrong else True
