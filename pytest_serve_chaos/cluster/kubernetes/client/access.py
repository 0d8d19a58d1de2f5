"""How requests are sent past the Kubernetes client to what is behind the API server: address, TLS and credentials."""

from __future__ import annotations

import contextlib
import functools
import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from pytest_serve_chaos import clock
from pytest_serve_chaos.errors import ClusterError

_RENEWED_EVERY = 240.0
"""Seconds; a token in a pod lives for at least 10 minutes, and is replaced after four fifths of its life."""

Permit: TypeAlias = Callable[[str, str], None]
"""Called before each request with its method (``EXEC`` for a program in a pod) and its path at the API server.

Raises `SafetyError` if the request must not be sent.
"""


@dataclass(frozen=True, slots=True)
class Access:
    """How to reach the API server as the kubeconfig says.

    Attributes:
        server: Its address.
        headers: Returns what to send with a request; a token may be another one the next time.
        ssl_context: For ``https``.
    """

    server: str
    headers: Callable[[], Mapping[str, str]]
    ssl_context: ssl.SSLContext


def access_of(configuration: Any) -> Access:
    """The access that a configuration of the Kubernetes client has."""
    context = ssl.create_default_context(cafile=configuration.ssl_ca_cert)
    if configuration.cert_file:
        context.load_cert_chain(configuration.cert_file, configuration.key_file)
    if not configuration.verify_ssl:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE

    def headers() -> Mapping[str, str]:
        token = configuration.get_api_key_with_prefix("BearerToken", alias="authorization")
        return {"Authorization": token} if token else {}

    return Access(configuration.host, headers, context)


class Renewal:
    """Keeps the token of a client of the Kubernetes API new; give it to the client as its hook for that.

    The client itself renews only what a program gave it with an end in sight. A token in a file is replaced
    from time to time, so the kubeconfig is loaded again now and then.

    Args:
        configuration: The client's, loaded just now.
        load: Loads the kubeconfig into a configuration of its own.
    """

    def __init__(self, configuration: Any, load: Callable[[], Any]) -> None:
        self._hook = configuration.refresh_api_key_hook
        self._load = load
        self._loaded = clock.now()
        self._lock = threading.Lock()

    def __call__(self, configuration: Any) -> None:
        """Puts the token that is good now into the configuration."""
        with self._lock:
            if clock.now() - self._loaded > _RENEWED_EVERY:
                self._loaded = clock.now()
                with contextlib.suppress(ClusterError):  # then the token that is there has to do
                    self._hook = self._load().refresh_api_key_hook
            if self._hook is not None:
                self._hook(configuration)
                configuration.refresh_api_key_hook = self  # which the client's own hook replaces by itself


def without_redirects(connection: Any) -> None:
    """Makes a client of the Kubernetes API give a redirect back as the answer.

    Some versions of its HTTP library follow one with the user's client certificate, and on the same host with the
    token.
    """
    pools = connection.rest_client.pool_manager
    pools.urlopen = functools.partial(pools.urlopen, redirect=False)


def guarded(connection: Any, permit: Permit) -> None:
    """Makes a client of the Kubernetes API ask before each request."""
    send = connection.rest_client.request
    # Where one server stands before several clusters, each has a path there.
    base = urlsplit(connection.configuration.host).path.rstrip("/")

    def ask(method: str, url: str, *arguments: Any, **options: Any) -> Any:
        permit(method, urlsplit(url).path.removeprefix(base))
        return send(method, url, *arguments, **options)

    connection.rest_client.request = ask
