"""What the machine is on which tests run, as far as it may be published."""

from __future__ import annotations

import os
import platform

from pytest_serve_chaos.model import Json


def host_facts(*, has_cluster: bool) -> dict[str, Json]:
    """The system, its processors and its memory: never a name of the machine, of a user, or of a directory.

    Args:
        has_cluster: Whether the cluster is on this machine, too.
    """
    facts: dict[str, Json] = {
        "has_cluster": has_cluster,
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "distribution": _distribution(),
        "processors": os.cpu_count(),
        "memory": _memory(),
    }
    return {name: value for name, value in facts.items() if value is not None}


def _distribution() -> str | None:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME")
    except OSError:
        return None


def _memory() -> int | None:
    """Bytes; None where the system does not say it."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return None
