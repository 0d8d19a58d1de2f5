"""What a transport is: it sends one request, and reports what became of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias

from pytest_serve_chaos.traffic.request import Message, Outcome, RequestSpec

Address: TypeAlias = tuple[str, int]
"""The client's address and port of a connection."""


class Sender(Protocol):
    """Sends each request on a connection that is made for it."""

    async def prepare(self) -> None:
        """Does what would else make the first request late, such as loading modules."""
        ...

    async def send(self, message: Message | None = None) -> Outcome:
        """Sends one request and waits for its end; many are in flight at the same time.

        Whatever goes wrong is an outcome: it raises nothing, unless it is cancelled.

        Args:
            message: What is sent to the address of the spec. None: what the spec says itself.
        """
        ...


class PersistentSender(Protocol):
    """Sends one request after the other on one connection, and opens a new one only when it broke.

    A request that is on the connection when it breaks is lost. Nothing is ever sent twice.

    Attributes:
        local_address: The client's address of the connection last opened; None if there is none, or it broke.
        on_open: Called with the client's address whenever a connection was opened, before anything is sent on it.
    """

    local_address: Address | None
    on_open: Callable[[Address], None] | None

    async def send(self, message: Message | None = None) -> Outcome:
        """Sends one request and waits for its end, as a `Sender` does. The caller sends the next one only then."""
        ...

    async def close(self) -> None:
        """Closes the connection, if there is one; the next request opens another."""
        ...


class Transport(Protocol):
    """One way to send requests: HTTP, for example.

    All of them use the vocabulary of `Outcome`. `error` is None for a good answer, and else the class of the error as
    httpx names it (``ConnectError``, ``ReadTimeout``), ``HTTP 500``, ``WrongAnswer``, or ``NotSent`` for what this side
    could not send.
    """

    @property
    def name(self) -> str:
        """What it is called: ``http``."""
        ...

    def fresh(self, spec: RequestSpec) -> Sender:
        """What sends each request on a new connection."""
        ...

    def persistent(self, spec: RequestSpec) -> PersistentSender:
        """What sends requests on one connection."""
        ...
