"""Which process has accepted a TCP connection: this distinguishes the proxies on a shared port."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Collection
from pathlib import Path

# linux/netlink.h, linux/sock_diag.h and linux/inet_diag.h
_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_NLMSG_ERROR = 2
_NLM_F_REQUEST = 1
_ALL_STATES = 0xFFFFFFFF
_NO_COOKIE = b"\xff" * 8
_HEADER = struct.Struct("=IHHII")
_INODE_AT = _HEADER.size + 4 + 48 + 16  # behind family and timers, the socket's id, and four counters


def owner(server: tuple[str, int], client: tuple[str, int], candidates: Collection[int]) -> int | None:
    """The PID, among `candidates`, that has accepted the connection from `client` to `server`.

    None if nobody has accepted it (yet), or if another process has.
    """
    inode = accepted(server, client)
    return holder(inode, candidates) if inode else None


def accepted(server: tuple[str, int], client: tuple[str, int]) -> int:
    """The inode of the server's end of a connection; 0 as long as nobody has accepted it."""
    try:
        return _ask_kernel(server, client)
    except OSError:  # a kernel without inet_diag
        return _search_table(server, client)


def holder(inode: int, candidates: Collection[int]) -> int | None:
    """The PID, among `candidates`, that has the socket with that inode."""
    wanted = f"socket:[{inode}]"
    for pid in candidates:
        with contextlib.suppress(OSError):
            for descriptor in os.listdir(f"/proc/{pid}/fd"):
                with contextlib.suppress(OSError):
                    if os.readlink(f"/proc/{pid}/fd/{descriptor}") == wanted:
                        return pid
    return None


def _ask_kernel(server: tuple[str, int], client: tuple[str, int]) -> int:
    """The inode of the server's end; 0 if there is none. Under load, /proc/net/tcp has thousands of lines."""
    ends = struct.pack("!HH", server[1], client[1])
    addresses = b"".join(socket.inet_aton(address).ljust(16, b"\0") for address, _ in (server, client))
    question = struct.pack("=BBBBI", socket.AF_INET, socket.IPPROTO_TCP, 0, 0, _ALL_STATES)
    question += ends + addresses + bytes(4) + _NO_COOKIE
    header = _HEADER.pack(_HEADER.size + len(question), _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as kernel:
        kernel.settimeout(1.0)
        kernel.send(header + question)
        answer = kernel.recv(4096)
    _, kind, _, _, _ = _HEADER.unpack_from(answer)
    if kind == _NLMSG_ERROR:
        (error,) = struct.unpack_from("=i", answer, _HEADER.size)
        if -error in (2, 110):  # ENOENT: no such connection; ETIMEDOUT: one that has ended
            return 0
        raise OSError(-error, os.strerror(-error))
    (inode,) = struct.unpack_from("=I", answer, _INODE_AT)
    return int(inode)


def _search_table(server: tuple[str, int], client: tuple[str, int]) -> int:
    pair = f"{_hex(server)} {_hex(client)}"
    for line in Path("/proc/net/tcp").read_text().splitlines():
        if pair in line:
            return int(line.split()[9])
    return 0


def _hex(address: tuple[str, int]) -> str:
    # /proc/net/tcp has the address as the kernel keeps it (network order) printed as a number of this machine.
    (number,) = struct.unpack("=I", socket.inet_aton(address[0]))
    return f"{number:08X}:{address[1]:04X}"
