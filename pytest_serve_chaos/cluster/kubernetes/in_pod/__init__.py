"""Short programs that run inside of a Ray pod by exec, each a process of its own; here they are text."""

from __future__ import annotations

import base64
import json
import re
import zlib
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

GONE = 3
"""The exit status of `signal_process`, `children` and `set_flag`, where the process is gone."""

ANOTHER_POD = 5
"""The exit status of a program that has come into another pod than it was meant for (`only_in`)."""

NOT_SHOWN = 6
"""The same of one that would change something in a container that does not show whose it is."""

LOOKS = frozenset(
    (
        "children",
        "follow_logs",
        "knock",
        "print_token",
        "read_logs",
        "show_haproxy",
        "watch_processes",
        "watch_usage",
    )
)
"""The programs that change nothing."""

_IMPORT = re.compile(rf"^from {re.escape(__name__)}\.(\w+) import .*$", re.MULTILINE)

NO_DIRECTORY = 4
"""The exit status of `set_flag` where the container has no directory for flags."""

_LONG = 5000
"""Characters, which are half as many more in a URL."""

_LONG_WITH_CHECK = 3000
"""The same of a program that goes into a URL."""


def source(name: str) -> str:
    """The source text of the program of that name, for ``python -c``; what it imports from here is in it."""
    return _IMPORT.sub(lambda found: _without_head(_text(found[1])), _text(name))


def _text(name: str) -> str:
    return resources.files(__package__).joinpath(f"{name}.py").read_text(encoding="utf-8")


def _without_head(text: str) -> str:
    """A module without its docstring and its import from ``__future__``, which are only valid at the beginning."""
    return text.partition("from __future__ import annotations\n")[2]


def _title(name: str) -> str:
    return _text(name).partition("\n")[0].strip('"')


def _packed(title: str, program: str) -> str:
    """A program in less text: it travels in a URL, of which some proxies take no more than 8 KB."""
    text = base64.b64encode(zlib.compress(program.encode(), 9)).decode()
    return f"# {title}\nimport base64, zlib; exec(zlib.decompress(base64.b64decode({text!r})))"


def command(name: str, uid: str, *arguments: str) -> tuple[str, ...]:
    """The command line of a program that does nothing in another pod than that, whichever has its name by now.

    Args:
        name: The program.
        uid: The UID of the pod; "": it is known otherwise.
        *arguments: Given to the program.
    """
    check = f"{_without_head(_text('only_in'))}only_in({uid!r}, looks={name in LOOKS})\n"
    text = f"# {_title(name)}\nfrom __future__ import annotations\n{check}{_without_head(source(name))}"
    if len(text) >= _LONG_WITH_CHECK:
        text = _packed(_title(name), text)
    return ("python", "-c", f"# in pod {uid}\n{text}", *arguments)


def looks(words: Sequence[str]) -> bool:
    """Whether a command line is one of `command` for a program that changes nothing, word for word."""
    uid = words[2].partition("\n")[0].removeprefix("# in pod ") if len(words) > 2 else ""
    return any(tuple(words[:3]) == command(name, uid)[:3] for name in LOOKS)


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


def short(name: str) -> str:
    """The source text of a program, packed where it is long."""
    text = source(name)
    return text if len(text) < _LONG else _packed(_title(name), text)
