"""HTTP requests that are not traffic: to what serves on this machine, and to the internet."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeAlias, cast

import httpx

if TYPE_CHECKING:
    import httpcore

Address: TypeAlias = tuple[str, int]


class _Unsuitable(Exception):
    """A connection is not the one that was wanted; nothing was sent on it."""


def get_if(url: str, suits: Callable[[Address], bool], *, timeout: float) -> tuple[int, str] | None:
    """GETs a URL on a new connection, unless that does not suit: then nothing is sent.

    Args:
        url: What is asked for, without the environment's proxies.
        suits: Says by the client's address and port whether the connection is the one that is wanted.
        timeout: Seconds to connect, and for each part of the answer.

    Returns:
        Status and text of the answer; None if the connection did not suit.

    Raises:
        OSError: There is no answer.
    """

    def opened(name: str, info: Mapping[str, object]) -> None:
        if name != "connection.connect_tcp.complete":
            return
        stream = cast("httpcore.NetworkStream", info["return_value"])
        host, port = stream.get_extra_info("client_addr")[:2]
        if not suits((host, port)):
            stream.close()
            raise _Unsuitable

    try:
        with httpx.Client(timeout=timeout, verify=False, trust_env=False) as client:
            answer = client.get(url, extensions={"trace": opened})
    except _Unsuitable:
        return None
    except httpx.HTTPError as error:
        raise OSError(f"{type(error).__name__}: {error}") from error
    return answer.status_code, answer.text


def download(url: str, *, timeout: float) -> str:
    """The text at a URL, which is asked for as this machine reaches the internet: with its proxies and authorities.

    Raises:
        OSError: It cannot be had.
    """
    try:
        answer = httpx.get(url, timeout=timeout, follow_redirects=True, verify=ssl.create_default_context())
        return answer.raise_for_status().content.decode("utf-8")
    except (httpx.HTTPError, httpx.InvalidURL, ImportError, ValueError) as error:  # the latter two: an odd proxy
        raise OSError(f"{type(error).__name__}: {error}") from error
