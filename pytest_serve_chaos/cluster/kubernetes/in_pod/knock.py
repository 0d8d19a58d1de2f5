"""Tries to open a connection. Arguments: address, port, seconds. Prints ``open`` or the name of the error."""

from __future__ import annotations

import socket
import sys


def main(address: str, port: str, timeout: str) -> None:
    """Opens the connection and closes it."""
    try:
        socket.create_connection((address, int(port)), timeout=float(timeout)).close()
        print("open")
    except OSError as error:
        print(type(error).__name__)


if __name__ == "__main__":
    main(*sys.argv[1:])
