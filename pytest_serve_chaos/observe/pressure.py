"""How much the processes of this machine wait for a processor, by the kernel's own figures."""

from __future__ import annotations

import re
from pathlib import Path

STARVED = 0.75
"""The share of the last minute in which some process waited for a processor, from which on a machine is starved: what
did not answer in time may only have had no turn."""

_CPU = Path("/proc/pressure/cpu")
_ON_THIS_MACHINE = ("local", "kind")


def cpu_pressure(file: Path = _CPU) -> float | None:
    """The share of the last minute, 0 to 1, in which some process waited for a processor.

    See the kernel's documentation of pressure stall information (PSI). None where the kernel does not say.
    """
    try:
        found = re.search(r"^some .*avg60=([\d.]+)", file.read_text(encoding="ascii"), re.MULTILINE)
    except OSError:  # PSI is turned off, or the kernel is older than 4.20
        return None
    return float(found[1]) / 100 if found else None


def starved(backend: str) -> str:
    """That the machine on which a cluster of that backend runs is starved, in words; "" if it is not, or elsewhere."""
    pressure = cpu_pressure() if backend in _ON_THIS_MACHINE else None
    if pressure is None or pressure < STARVED:
        return ""
    return f"processes waited for a processor in {100 * pressure:.0f} % of the last minute"
