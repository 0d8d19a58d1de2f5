"""What is sent, and what becomes of it: the same words for every transport."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from pytest_serve_chaos.errors import SafetyError, SettingsError
from pytest_serve_chaos.masking import masked
from pytest_serve_chaos.traffic.url_path import leads_elsewhere

REPLICA_HEADER = "x-serve-chaos-replica"
"""The header of an answer that names the replica that gave it."""

PARENT_HEADER = "x-serve-chaos-parent"
"""The header of an answer that names the replica that asked it of another one."""

NODE_HEADER = "x-serve-chaos-node"
"""The header of an answer that names the Ray node (its id) that gave it."""

REQUEST_ID_HEADER = "x-request-id"
"""The header by which Serve names a request in its logs: Serve's own id in each answer, or that of the request."""

WRONG_ANSWER = "WrongAnswer"
"""The error of a request whose answer had a good status, and not what the check wanted."""

TOO_LARGE = "TooLarge"
"""The error of a request whose answer has more bytes than a check gets to see (`LARGEST_CHECKED`)."""

LARGEST_CHECKED = 16 * 1024 * 1024
"""Bytes of a body that a check gets to see: all in flight are in memory. Without a check a body may have any size."""

NOT_SENT = "NotSent"
"""The error of a request that never left: this side had no socket, or no place in flight, for it."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a check gets to see.

    Attributes:
        status: The HTTP status: 200 to 299, or one that the request expects. No other is checked.
        headers: By name in lower case.
        body: All of it; at most `LARGEST_CHECKED` bytes, else the request is lost as `TOO_LARGE`.
        app: The app that was asked, where traffic goes to several.
        name: The name of the request, where it has one.
    """

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    app: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Message:
    """What one request says, wherever it is sent. The same object may be sent many times.

    Attributes:
        path: Below the URL of the spec, with the query; "" for that URL itself.
        method: The HTTP method.
        headers: Sent with it; those of the spec win.
        body: Sent with it.
        statuses: The HTTP statuses of a good answer; none for 200 to 299.
        app: The app that it asks, where traffic goes to several.
        name: What reports call this kind of request, where it has a name.
    """

    path: str = field(default="", repr=False)
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes | None = field(default=None, repr=False)
    statuses: frozenset[int] = frozenset()
    app: str = ""
    name: str = ""

    def expects(self, status: int) -> bool:
        """Whether an answer with that status may be a good one."""
        return status in self.statuses if self.statuses else 200 <= status <= 299


@dataclass(frozen=True, slots=True)
class RequestSpec:
    """Where to send, what to send there unless a `Message` says otherwise, and which answer is good.

    Attributes:
        url: Where to, ``http`` or ``https``. An IP address saves asking for the name on each new connection.
        method: The HTTP method.
        headers: Sent with each request, whatever its message.
        body: Sent with each request that has no message.
        timeout: Seconds for all of a request: connecting, sending it and reading the whole answer.
        check: Says whether an answer is the right one. It runs where requests are timed, so it must be quick.
        ssl_context: For ``https``; None trusts the authorities that the system trusts.
        permit: Asked with the method and the path of each request, before it is sent the first time; raises
            `SafetyError` where it must not be sent. None: all may be sent.

    Raises:
        SettingsError: The URL or the timeout cannot be used.
    """

    url: str = field(repr=False)
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes | None = field(default=None, repr=False)
    timeout: float = 5.0
    check: Callable[[Answer], bool] | None = None
    ssl_context: ssl.SSLContext | None = None
    permit: Callable[[str, str], None] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        try:
            url = urlsplit(self.url)
            _ = url.port  # raises where it is not a number
        except ValueError as error:
            raise SettingsError(
                f"url: {masked(self.url)!r} is not a URL: {error}", fix=["write it as http://host:port/route"]
            ) from None
        if url.scheme not in ("http", "https") or not url.hostname:
            raise SettingsError(
                f"url: {masked(self.url)!r} has no host to send to", fix=["write it as http://host:port/route"]
            )
        if not self.timeout > 0:
            raise SettingsError(f"timeout: {self.timeout!r} is not above 0", fix=["give seconds, 5.0 for example"])

    @property
    def message(self) -> Message:
        """What it says itself."""
        return Message("", self.method, self.headers, self.body)

    def url_of(self, message: Message) -> str:
        """Where that message goes.

        Raises:
            SafetyError: Its path leads out of the URL, or it must not be sent there.
        """
        path = message.path
        if path and (not path.startswith("/") or leads_elsewhere(path)):
            raise SafetyError(f"a request is not sent: its path {masked(path)[:200]!r} leads out of {masked(self.url)}")
        url = self.url.rstrip("/") + path if path else self.url
        if self.permit is not None:
            self.permit(message.method, urlsplit(url).path)
        return url


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one request.

    Attributes:
        finished: When that was known, in monotonic seconds.
        status: The HTTP status, where there was one.
        error: None for a good answer; else httpx's class, ``HTTP 500``, ``WrongAnswer`` or ``NotSent``.
        replica: The replica that answered, where the answer says so.
        node: The Ray node that answered, where the answer says so.
        parent: The replica that asked that replica, where the answer says so.
        request_id: The id by which logs name it, where its answer or itself carries one; of a lost request.
    """

    finished: float
    status: int | None = None
    error: str | None = None
    replica: str | None = None
    node: str | None = None
    parent: str | None = None
    request_id: str | None = None
