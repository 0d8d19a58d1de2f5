"""Prints what the HAProxy of this pod says of its servers, and its config: a JSON list of two texts.

Argument: the directory of its config and its admin socket.
"""

from __future__ import annotations

import json
import os
import socket
import sys

ANSWERS_WITHIN = 3.0


def main(directory: str) -> None:
    """Asks the admin socket."""
    with open(os.path.join(directory, "haproxy.cfg")) as file:
        config = file.read()
    with socket.socket(socket.AF_UNIX) as admin:
        admin.settimeout(ANSWERS_WITHIN)
        admin.connect(os.path.join(directory, "admin.sock"))
        admin.sendall(b"show servers state\n")
        with admin.makefile("rb") as answer:
            print(json.dumps([answer.read().decode(errors="replace"), config]))


if __name__ == "__main__":
    main(*sys.argv[1:])
