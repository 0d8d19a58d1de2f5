"""How requests are sent past the Kubernetes client to what is behind the API server: address, TLS and credentials."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias
from urllib.parse import urlsplit

Permit: TypeAlias = Callable[[str, str], None]
"""Told of each request before it is sent: its method (``EXEC`` for a program in a pod) and its path at the API server.

Raises `SafetyError` where it must not be sent.
"""


@dataclass(frozen=True, slots=True)
class Access:
    """How to reach the API server as the kubeconfig says.

    Attributes:
        server: Its address.
        headers: Gives what to send with a request; a token may be another one the next time.
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


def guarded(connection: Any, permit: Permit) -> None:
    """Makes a client of the Kubernetes API ask before each request."""
    send = connection.rest_client.request

    def ask(method: str, url: str, *arguments: Any, **options: Any) -> Any:
        permit(method, path_of(url))
        return send(method, url, *arguments, **options)

    connection.rest_client.request = ask


def path_of(url: str) -> str:
    """The path of a URL, without its address and query."""
    return urlsplit(url).path
