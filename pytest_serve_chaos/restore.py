"""After an experiment the cluster has its first shape again, checked; one that has not is built anew."""

from __future__ import annotations

from pytest_serve_chaos import clock
from pytest_serve_chaos.clock import NotYet
from pytest_serve_chaos.cluster.capabilities import RemembersConnections
from pytest_serve_chaos.errors import ServeChaosError
from pytest_serve_chaos.faults.rig import Rig
from pytest_serve_chaos.observe.shape import imbalance, lacks, surplus

SHAPE_WITHIN = 90.0


def restore(rig: Rig) -> None:
    """Heals all that was injected, puts the Serve config back and waits for the first shape.

    Sets `rig.spoilt` where the cluster is not as it was.
    """
    begun = clock.now()
    try:
        _put_back(rig)
    except ServeChaosError as error:
        rig.spoilt = error.what
    text = f"not as before: {rig.spoilt}" if rig.spoilt else "as before"
    rig.history.add("restored", text, experiment=rig.experiment, data={"seconds": clock.now() - begun})


def _put_back(rig: Rig) -> None:
    rig.heal_all()
    rig.shape = rig.first_shape
    if rig.cluster.serve_config != rig.serve_config:
        rig.cluster.apply_serve_config(rig.serve_config)
    if rig.spoilt:  # it is built anew anyway
        return
    clock.wait_until("the cluster to have its first shape again", lambda: _restored(rig), timeout=SHAPE_WITHIN)
    if isinstance(rig.cluster, RemembersConnections):
        rig.cluster.forget_connections()
    rig.spoilt = "; ".join(imbalance(rig.watcher.topology, rig.shape))


def _restored(rig: Rig) -> bool | NotYet:
    topology = rig.watcher.sample()
    wrong = lacks(topology, rig.watcher.report, rig.shape) + surplus(topology, rig.watcher.report, rig.shape)
    return NotYet("; ".join(wrong)) if wrong else True
