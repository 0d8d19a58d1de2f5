"""How requests are sent past the Kubernetes client to what is behind the API server: address, TLS and credentials."""

from __future__ import annotations

import copy
import functools
import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlsplit

from pytest_serve_chaos import clock
from pytest_serve_chaos.cluster.kubernetes.client.api_path import check_path
from pytest_serve_chaos.cluster.kubernetes.client.deadline import CREDENTIALS_WITHIN, within
from pytest_serve_chaos.errors import ClusterError, SafetyError

_RENEWED_EVERY = 240.0
"""Seconds; a token in a pod lives for at least 10 minutes, and is replaced after four fifths of its life."""
_LOOKED_AT_EVERY = 10.0
"""Seconds; the client takes a token for one that has ended 5 minutes before its end."""
_AFTER_FAILURE = 60.0
"""Seconds after a try that failed, in which requests are sent with the token that is there and wait for no other."""

EXEC = "EXEC"
"""The method that a program in a pod has for a `Permit`."""
TRAFFIC = "TRAFFIC"
"""The method that a request of the user's traffic has for a `Permit`, whatever its own is."""


class Permit(Protocol):
    """Called before each request to the API server, with its method and its path there.

    It gets the body as well where the method is ``PATCH``, and the command line where it is `EXEC`. It raises
    `SafetyError` if the request must not be sent.
    """

    def __call__(self, method: str, path: str, body: object = None, /) -> None:
        """Lets the request pass."""
        ...


@dataclass(frozen=True, slots=True)
class Access:
    """How to reach the API server as the kubeconfig says.

    Attributes:
        server: Its address.
        headers: Returns what to send with a request; a token may be another one the next time.
        ssl_context: For ``https``.
        permit: To be asked before each request, with its method and its path.
    """

    server: str
    headers: Callable[[], Mapping[str, str]]
    ssl_context: ssl.SSLContext
    permit: Callable[[str, str], None]


def access_of(configuration: Any, permit: Permit | None) -> Access:
    """The access that a configuration of the Kubernetes client has, under the same guard as the client."""
    context = ssl.create_default_context(cafile=configuration.ssl_ca_cert)
    if configuration.cert_file:
        context.load_cert_chain(configuration.cert_file, configuration.key_file)
    if not configuration.verify_ssl:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE

    def headers() -> Mapping[str, str]:
        token = configuration.get_api_key_with_prefix("BearerToken", alias="authorization")
        return {"Authorization": token} if token else {}

    return Access(configuration.host, headers, context, _checked(configuration.host, permit))


class Renewal:
    """Keeps the token of a client of the Kubernetes API new; give it to the client as its hook for that.

    The client itself renews only what a program gave it with an end in sight. A token in a file is replaced
    from time to time, so the kubeconfig is loaded again now and then. The token that is there stays in use if a new one
    does not come in time, or if the kubeconfig leads to another server by now.

    Args:
        configuration: The client's, loaded just now.
        load: Loads the kubeconfig into a configuration of its own, within a deadline.
    """

    def __init__(self, configuration: Any, load: Callable[[], Any]) -> None:
        self._loaded = _apart(configuration)
        self._load = load
        self._lock = threading.Lock()
        self._loaded_at = clock.now()
        self._look_at = clock.now() + _LOOKED_AT_EVERY

    def __call__(self, configuration: Any) -> None:
        """Puts the token that is good now into the configuration."""
        with self._lock:
            if clock.now() < self._look_at:
                return
            try:
                self._renew()
            except (ClusterError, SafetyError, TimeoutError):  # then the token that is there has to do
                self._look_at = clock.now() + _AFTER_FAILURE
                return
            self._look_at = clock.now() + _LOOKED_AT_EVERY
            for name in ("cert_file", "key_file"):
                setattr(configuration, name, getattr(self._loaded, name))
            configuration.api_key.update(self._loaded.api_key)

    def _renew(self) -> None:
        loaded = self._loaded
        if clock.now() - self._loaded_at > _RENEWED_EVERY:
            found = self._load()
            if loaded.api_key and not found.api_key:
                raise ClusterError("the program for credentials gave none")
            self._loaded, self._loaded_at = found, clock.now()
        elif loaded.refresh_api_key_hook is not None:
            within(CREDENTIALS_WITHIN, lambda: loaded.refresh_api_key_hook(loaded))


def _apart(configuration: Any) -> Any:
    """A copy whose token, and whose hook for a new one, are its own."""
    apart = copy.copy(configuration)
    apart.api_key = dict(configuration.api_key)
    return apart


def without_redirects(connection: Any) -> None:
    """Makes a client of the Kubernetes API give a redirect back as the answer.

    Some versions of its HTTP library follow one with the user's client certificate, and on the same host with the
    token.
    """
    pools = connection.rest_client.pool_manager
    pools.urlopen = functools.partial(pools.urlopen, redirect=False)


def guarded(connection: Any, permit: Permit | None) -> None:
    """Makes a client of the Kubernetes API check each path, and ask the guard if there is one, before each request."""
    send = connection.rest_client.request
    ask = _checked(connection.configuration.host, permit)

    def checked(method: str, url: str, *arguments: Any, **options: Any) -> Any:
        ask(method, urlsplit(url).path, *([options.get("body")] if method == "PATCH" else []))
        return send(method, url, *arguments, **options)

    connection.rest_client.request = checked


def _checked(server: str, permit: Permit | None) -> Callable[..., None]:
    # Where one server stands before several clusters, each has a path there.
    base = urlsplit(server).path.rstrip("/")

    def ask(method: str, path: str, *body: object) -> None:
        there = path.removeprefix(base)
        check_path(there)
        if permit is not None:
            permit(method, there, *body)

    return ask
