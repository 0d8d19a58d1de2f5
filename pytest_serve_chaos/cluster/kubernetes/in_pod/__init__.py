"""Short programs that run inside of a Ray pod by exec, each a process of its own; here they are text."""

from __future__ import annotations

import base64
import json
import zlib
from importlib import resources
from pathlib import Path

GONE = 3
"""The exit status of `signal_process`, and of `children`, where the process is gone."""

NO_DIRECTORY = 4
"""The exit status of `set_flag` where the container has no directory for flags."""


def source(name: str) -> str:
    """The source text of the program of that name, for ``python -c``."""
    return resources.files(__package__).joinpath(f"{name}.py").read_text(encoding="utf-8")


def packed(name: str) -> str:
    """The same in less text: it travels in a URL, of which some proxies take no more than 8 KB."""
    text = base64.b64encode(zlib.compress(source(name).encode(), 9)).decode()
    return f"import base64, zlib; exec(zlib.decompress(base64.b64decode({text!r})))"


def moment(output: str, started: float) -> float:
    """When a program in a pod did something, on our clock; never later than it did.

    Where the pod runs on this machine (its kernel has our boot id), the clock is ours. Elsewhere the program says how
    long after its own beginning it did it, and it cannot have begun before it was started. Were the moment late, what
    the fault cost at once would count as lost before it.

    Args:
        output: What it printed; the last line is JSON with ``began``, ``asked`` and ``boot``.
        started: When we started it, monotonic seconds.

    Raises:
        ValueError: It printed something else.
    """
    try:
        said = json.loads(output.strip().splitlines()[-1])
        began, asked, boot = float(said["began"]), float(said["asked"]), said["boot"]
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        raise ValueError(f"{output[-80:]!r} does not say when it was") from error
    boot_id = Path("/proc/sys/kernel/random/boot_id")
    if boot_id.exists() and boot_id.read_text(encoding="ascii").strip() == boot:
        return asked
    return started + asked - began
