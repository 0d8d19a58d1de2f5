"""Single requests like those of the traffic: to one proxy alone, or to see whether an app can be reached."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from pytest_serve_chaos.cluster.asking import Asking
from pytest_serve_chaos.cluster.capabilities import Endpoint
from pytest_serve_chaos.traffic.request import Answer, Message, RequestSpec
from pytest_serve_chaos.traffic.request_kind import RequestKind
from pytest_serve_chaos.traffic.transports.http import send_once

_REQUEST_ID = "X-Request-ID"
"""Serve takes a request's id from here, and writes it into the replica's access log."""


@dataclass(frozen=True, slots=True)
class Probe:
    """What is asked: what the traffic asks, too.

    Attributes:
        timeout: Seconds for one answer.
        check: Whether an answer is right.
        path: None: the route of the app.
        kinds: The kinds of requests, where they differ.
        seed: Of the run.
    """

    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes | None = field(default=None, repr=False)
    timeout: float = 5.0
    check: Callable[[Answer], bool] | None = None
    path: str | None = field(default=None, repr=False)
    kinds: tuple[RequestKind, ...] = ()
    seed: int = 0

    @property
    def asking(self) -> Asking:
        """What is asked, wherever it is."""
        return Asking(self.method, self.headers, self.body, self.path, self.kinds, seed=self.seed)

    def to(self, url: str) -> RequestSpec:
        """How that address is asked."""
        return RequestSpec(url, timeout=self.timeout, check=self.check)


def ask(endpoint: Endpoint, probe: Probe, message: Message, request_id: str) -> str:
    """Sends one request; returns the replica that the answer names, "" where it names none or there is no answer.

    A redirect is an answer that names none.
    """
    headers = {**endpoint.headers, _REQUEST_ID: request_id}
    spec = replace(probe.to(endpoint.url), headers=headers, ssl_context=endpoint.ssl_context, permit=endpoint.permit)
    outcome = send_once(spec, message)
    return outcome.replica or "" if outcome.error is None else ""


def new_request_id() -> str:
    """An id that no other request has."""
    return f"serve-chaos-{uuid.uuid4().hex}"
