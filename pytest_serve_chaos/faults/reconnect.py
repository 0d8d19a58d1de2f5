"""What a GCS costs that stays away for longer than Ray's nodes look for it."""

from __future__ import annotations

from pytest_serve_chaos.analysis.configuration import RECONNECT_TIMEOUT
from pytest_serve_chaos.analysis.words import limit
from pytest_serve_chaos.events import Remark
from pytest_serve_chaos.faults.fault import Fault
from pytest_serve_chaos.faults.injection import Injection
from pytest_serve_chaos.faults.rig import Rig
from pytest_serve_chaos.observe.configuration import setup_now


def inject_without_gcs(rig: Rig, fault: Fault, lasts: float | None, *, must_land: bool) -> Injection:
    """Injects a fault that takes the GCS away for so many seconds, and says first where workers end before it is back.

    Args:
        rig: The cluster under test, and what is recorded about it.
        fault: The fault.
        lasts: Seconds for which the GCS is kept down; None: until it is healed.
        must_land: Whether a fault that did not land is an error.

    Raises:
        NotLanded: It must land, and did not.
    """
    remark = _workers_end(rig, lasts)
    if remark:
        rig.progress(f"warning: {remark}")
    injection = Injection(rig, fault, hold_for=lasts, must_land=must_land)
    if remark:
        rig.log.add(Remark(remark))
    return injection


def _workers_end(rig: Rig, lasts: float | None) -> str:
    """Why the workers go before the GCS is back; "" where they stay, or where that is not known."""
    setup = None if lasts is None else setup_now(rig.cluster)
    if lasts is None or setup is None or setup.reconnect is None or lasts < setup.reconnect:
        return ""
    return (
        f"the GCS stays away for {limit(lasts)}, and Ray's nodes end when they have looked for it for"
        f" {limit(setup.reconnect)} ({RECONNECT_TIMEOUT}): all workers start again, and nothing answers until they have"
    )
