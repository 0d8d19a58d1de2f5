from __future__ import annotations

import os
import socket
from collections.abc import Callable

import pytest

from pytest_serve_chaos.cluster.local import connections


@pytest.mark.parametrize("ask", [connections._ask_kernel, connections._search_table])
def test_the_end_of_a_connection_that_was_accepted_is_found(
    ask: Callable[[tuple[str, int], tuple[str, int]], int],
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = listener.getsockname()
        with socket.create_connection(server) as client:
            address = client.getsockname()
            assert ask(server, address) == 0, "nobody has accepted it yet"
            accepted, _ = listener.accept()
            with accepted:
                assert ask(server, address) == os.fstat(accepted.fileno()).st_ino
                assert connections.owner(server, address, {os.getpid()}) == os.getpid()
                assert connections.owner(server, address, {1}) is None


def test_a_connection_that_is_not_there_has_no_owner() -> None:
    assert connections.owner(("127.0.0.1", 1), ("127.0.0.1", 2), {os.getpid()}) is None
