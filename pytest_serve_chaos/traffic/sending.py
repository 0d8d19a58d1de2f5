"""What traffic sends, and how: what its fresh and its persistent connections have in common."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_serve_chaos.traffic.request import RequestSpec
from pytest_serve_chaos.traffic.sources import Always, Messages
from pytest_serve_chaos.traffic.transports.base import Transport


@dataclass(frozen=True, slots=True)
class Sending:
    """What is sent, and how.

    Attributes:
        spec: Where requests go, and which answer is good.
        transport: How they are sent.
        messages: Says what each request sends.
    """

    spec: RequestSpec
    transport: Transport
    messages: Messages

    @classmethod
    def of(cls, spec: RequestSpec, transport: Transport, messages: Messages | None = None) -> Sending:
        """Requests that send what `messages` says; None: what the spec says."""
        return cls(spec, transport, messages or Always(spec))
