"""When an answer arrived at this machine, even if this process was too busy to read it then."""

from __future__ import annotations

import socket
import struct

_LAST_DATA_RECEIVED = struct.Struct("@52xI")
"""``tcpi_last_data_recv`` of Linux' ``struct tcp_info``: milliseconds since the last data came (``linux/tcp.h``)."""

_TICK = 0.010
"""Seconds between two ticks of the kernel's clock at most, by which that figure may be too large."""


def seconds_unread(connection: socket.socket | None) -> float:
    """Seconds for which the last data of a connection has been here, at least; 0 where the system does not tell."""
    option = getattr(socket, "TCP_INFO", None)
    if connection is None or option is None:
        return 0.0
    try:
        info = connection.getsockopt(socket.IPPROTO_TCP, option, _LAST_DATA_RECEIVED.size)
    except OSError:
        return 0.0
    if len(info) < _LAST_DATA_RECEIVED.size:
        return 0.0
    milliseconds: int = _LAST_DATA_RECEIVED.unpack(info)[0]
    return max(0.0, milliseconds / 1000 - _TICK)
