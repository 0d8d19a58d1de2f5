"""Which API server a kubeconfig leads to: all that a run does goes to the one that it looked at first."""

from __future__ import annotations

import base64
import hashlib
import re
import threading
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from pytest_serve_chaos.errors import SafetyError

SYSTEM_CA = "system"
"""Of a server whose certificate the system's CAs must have signed, since the kubeconfig has none."""
NO_CA = "none"
"""Of a server whose certificate is not verified, or that has none."""

_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", re.DOTALL)
_PORTS = {"https": 443, "http": 80}


@dataclass(frozen=True, slots=True)
class ServerIdentity:
    """What tells one API server from another, without asking it anything.

    Attributes:
        url: Its URL, normalised: scheme and host in lower case, with the port, without a slash at the end.
        ca: The SHA-256 of the certificates that must have signed its own, in hexadecimal; or `SYSTEM_CA`, or `NO_CA`.
    """

    url: str = field(repr=False)
    ca: str

    @classmethod
    def of(cls, url: str, ca_file: str | None, *, verified: bool = True) -> ServerIdentity:
        """The identity of the server that a kubeconfig names.

        Args:
            url: What the kubeconfig says.
            ca_file: The file with the certificates of its CA; None where the kubeconfig has none.
            verified: Whether the server's certificate is verified.

        Raises:
            ValueError: The URL has no host, or a port that is not a number.
            OSError: The file cannot be read.
        """
        normalised = normalised_url(url)
        if not verified or not normalised.startswith("https:"):
            return cls(normalised, NO_CA)
        return cls(normalised, SYSTEM_CA if ca_file is None else _hash(Path(ca_file).read_bytes()))

    def __str__(self) -> str:
        shown = self.ca if self.ca in (SYSTEM_CA, NO_CA) else f"SHA-256 {self.ca[:16]}"
        return f"{self.url} (CA: {shown})"


class FirstServer:
    """The server that was looked at first. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: ServerIdentity | None = None

    def hold_to(self, found: ServerIdentity) -> None:
        """Remembers the first server, and refuses any other.

        Raises:
            SafetyError: It is another server than the first one.
        """
        with self._lock:
            if self._found is None:
                self._found = found
            first = self._found
        if found != first:
            raise SafetyError(
                "the kubeconfig leads to another API server than at the beginning, so nothing is sent there",
                checked=[f"at the beginning: {first}", f"now: {found}"],
                fix=["leave the kubeconfig as it is while tests run", "or run the tests again, if the change is right"],
            )


def normalised_url(url: str) -> str:
    """The URL of a server in one spelling.

    Raises:
        ValueError: It has no host, or a port that is not a number.
    """
    parts = urlsplit(url.strip())
    scheme, host = parts.scheme.lower(), (parts.hostname or "").rstrip(".")
    if not host:
        raise ValueError(f"the URL of the API server has no host: {url!r}")
    port = parts.port or _PORTS.get(scheme, 443)
    shown = f"[{host}]" if ":" in host else host
    return f"{scheme}://{shown}:{port}{parts.path.rstrip('/')}"


def _hash(text: bytes) -> str:
    """The hash of certificates, in whatever order and with whatever text between them."""
    found = sorted(base64.b64decode(one) for one in _CERTIFICATE.findall(text))
    return hashlib.sha256(b"".join(found) or text).hexdigest()
