"""Marks proxies of this container that will not hear the next controller, so that anybody can replace them later.

Arguments: ``mark``, a text and ``PID-STARTED`` of each proxy, where STARTED are clock ticks; or ``forget``, to remove
all marks; or ``list``, which prints JSON: [PID, start time, text] of each marked proxy that is still there. A mark goes
with its container, as the proxy does.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys

DIRECTORY = "/tmp/serve-chaos-stale-proxies"


def main(what: str, text: str = "", *proxies: str) -> None:
    """Does what the first argument says."""
    if what == "mark":
        os.makedirs(DIRECTORY, mode=0o700, exist_ok=True)
        for proxy in proxies:
            write(os.path.join(DIRECTORY, proxy), text)
    elif what == "forget":
        for proxy in marked():
            remove(proxy)
    else:
        print(json.dumps([found for proxy in marked() if (found := still_there(proxy))]), flush=True)


def marked() -> list[str]:
    """``PID-STARTED`` of each proxy that was marked."""
    return sorted(os.listdir(DIRECTORY)) if os.path.isdir(DIRECTORY) else []


def still_there(proxy: str) -> list[str]:
    """PID, start time and text of a marked proxy; nothing, and no mark any more, if it has ended."""
    pid, _, started = proxy.partition("-")
    with contextlib.suppress(OSError, IndexError):
        with open(f"/proc/{int(pid)}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        if fields[0] not in (b"Z", b"X") and fields[19].decode() == started:
            with open(os.path.join(DIRECTORY, proxy)) as file:
                return [pid, started, file.read()]
    remove(proxy)
    return []


def write(path: str, text: str) -> None:
    """Writes a mark whole."""
    with open(path + ".new", "w") as file:
        file.write(text)
    os.replace(path + ".new", path)


def remove(proxy: str) -> None:
    """Removes a mark, and the directory with the last one."""
    with contextlib.suppress(OSError):
        os.unlink(os.path.join(DIRECTORY, proxy))
        os.rmdir(DIRECTORY)


if __name__ == "__main__":
    main(*sys.argv[1:])
