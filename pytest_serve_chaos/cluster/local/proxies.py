"""The proxies of a local cluster: all accept connections on one port, and each can be addressed alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pytest_serve_chaos import clock
from pytest_serve_chaos.clock import NotYet
from pytest_serve_chaos.cluster.http_client import get_if
from pytest_serve_chaos.cluster.local import connections, processes
from pytest_serve_chaos.errors import ObservationError, WaitTimeout
from pytest_serve_chaos.model import Component, Identity

_ACCEPTED_WITHIN = 0.25
"""Seconds; a proxy that takes longer to accept a connection is taken for another one, and the next is tried."""


class PortProxies:
    """Tells the proxies on a shared port apart, by the connections that the processes of each have accepted.

    Args:
        server: The address and port that they share.
        proxies: Returns the PIDs of the processes that accept connections, each with its proxy, as last seen.
    """

    def __init__(self, server: tuple[str, int], proxies: Callable[[], Mapping[int, Identity]]) -> None:
        self._server = server
        self._proxies = proxies

    def of(self, client: tuple[str, int]) -> Identity | None:
        """The proxy that has accepted the connection from `client`; None if that is unknown."""
        proxies = self._proxies()
        pid = connections.owner(self._server, client, proxies.keys())
        proxy = None if pid is None else proxies[pid]
        return proxy if proxy is not None and processes.alive(proxy) else None

    def ask(self, proxy: Component, path: str, *, timeout: float) -> tuple[int, str]:
        """Opens connections to the shared port until one is that proxy's, and sends GET `path` there.

        Returns:
            Status and body.

        Raises:
            ObservationError: The proxy is gone, or it gave no answer in `timeout` seconds.
        """
        if not processes.alive(proxy.identity):
            raise ObservationError(f"{proxy.name} is gone")
        server = self._server

        def accepted_by_it(client: tuple[str, int]) -> bool:
            # Asked each time: HAProxy may have been reloaded.
            own = {pid for pid, identity in self._proxies().items() if identity == proxy.identity}
            return _accepted_by(server, client, own) is not None

        def ask() -> tuple[int, str] | NotYet:
            try:
                answer = get_if(f"http://{server[0]}:{server[1]}{path}", accepted_by_it, timeout=timeout)
            except OSError as error:
                return NotYet(str(error))
            return answer or NotYet("the connections went to other proxies")

        try:
            return clock.wait_until(f"{proxy.name} to answer {path}", ask, timeout=timeout, interval=0.01)
        except WaitTimeout as error:
            raise ObservationError(str(error)) from error


def _accepted_by(server: tuple[str, int], client: tuple[str, int], candidates: set[int]) -> int | None:
    """The process that accepted the connection; None if no candidate did, or nobody did in time."""

    def look() -> int | NotYet:
        return connections.accepted(server, client) or NotYet("nobody")

    try:
        inode = clock.wait_until("the connection to be accepted", look, timeout=_ACCEPTED_WITHIN, interval=0.005)
    except WaitTimeout:
        return None
    return connections.holder(inode, candidates)
