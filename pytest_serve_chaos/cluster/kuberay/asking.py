"""Requests to one proxy alone, on connections of their own, to learn which replica it sends them to."""

from __future__ import annotations

import ssl
import urllib.error
import urllib.request
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field

from pytest_serve_chaos.cluster.capabilities import Endpoint

_REPLICA = "x-serve-chaos-replica"
"""What our apps, and those with `who_am_i`, name their replica in."""
_REQUEST_ID = "X-Request-ID"
"""Serve takes a request's id from here, and writes it into the replica's access log."""


@dataclass(frozen=True, slots=True)
class Probe:
    """What is asked: what the traffic asks, too.

    Attributes:
        timeout: Seconds for one answer.
    """

    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    timeout: float = 5.0


def ask(endpoint: Endpoint, probe: Probe, request_id: str) -> str:
    """Sends one request; returns the replica that the answer names, "" where it names none or there is no answer."""
    headers = {**probe.headers, **endpoint.headers, _REQUEST_ID: request_id}
    request = urllib.request.Request(endpoint.url, data=probe.body, headers=headers, method=probe.method)
    context = endpoint.ssl_context or ssl.create_default_context()
    handlers: list[urllib.request.BaseHandler] = [
        urllib.request.HTTPSHandler(context=context),
        urllib.request.ProxyHandler({}),  # whatever the environment says: this is the API server
    ]
    try:
        with urllib.request.build_opener(*handlers).open(request, timeout=probe.timeout) as answer:
            answer.read()
            return str(answer.headers.get(_REPLICA) or "")
    except urllib.error.HTTPError as error:
        error.close()
        return ""
    except OSError:
        return ""


def new_request_id() -> str:
    """An id that no other request has."""
    return f"serve-chaos-{uuid.uuid4().hex}"
