"""Which process has accepted a TCP connection: how one proxy on a shared port is told from another."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Collection
from pathlib import Path


def owner(server: tuple[str, int], client: tuple[str, int], candidates: Collection[int]) -> int | None:
    """The PID, among `candidates`, that has accepted the connection from `client` to `server`.

    None if nobody has accepted it (yet), or if it is none of them.
    """
    inode = _inode(server, client)
    if inode is None:
        return None
    wanted = f"socket:[{inode}]"
    for pid in candidates:
        with contextlib.suppress(OSError):
            for descriptor in os.scandir(f"/proc/{pid}/fd"):
                with contextlib.suppress(OSError):
                    if os.readlink(descriptor.path) == wanted:
                        return pid
    return None


def _inode(server: tuple[str, int], client: tuple[str, int]) -> str | None:
    pair = f"{_hex(server)} {_hex(client)}"
    for line in Path("/proc/net/tcp").read_text().splitlines():
        if pair in line:
            inode = line.split()[9]
            return None if inode == "0" else inode
    return None


def _hex(address: tuple[str, int]) -> str:
    # /proc/net/tcp has the address as the kernel keeps it (network order) printed as a number of this machine.
    (number,) = struct.unpack("=I", socket.inet_aton(address[0]))
    return f"{number:08X}:{address[1]:04X}"
