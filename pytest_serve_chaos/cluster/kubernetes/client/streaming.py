"""Answers of the API server that go on: a log that is followed, a watch, what a program in a pod prints."""

from __future__ import annotations

import contextlib
import io
import threading
from collections.abc import Iterator
from typing import Any, Protocol

from pytest_serve_chaos import clock
from pytest_serve_chaos.cluster.kubernetes.client.errors import reason
from pytest_serve_chaos.errors import CommandFailed, ObservationError

_TURN = 0.5
"""Seconds after which somebody who follows a program looks whether more is wanted."""
_SIGN_OF_LIFE = 5.0
"""Seconds after which a program that is followed hears again that somebody is there."""


class Channel(Protocol):
    """The websocket to a program in a pod."""

    @property
    def returncode(self) -> int | None:
        """The program's exit status, once it has ended."""
        ...

    def is_open(self) -> bool:
        """Whether more may come."""
        ...

    def run_forever(self, *, timeout: float) -> None:
        """Reads until the program has ended, for `timeout` seconds at the most."""
        ...

    def readline_stdout(self, *, timeout: float) -> str | None:
        """The next line, without its end."""
        ...

    def read_stdout(self, *, timeout: float) -> str | None:
        """What was printed and not yet read."""
        ...

    def read_stderr(self, *, timeout: float) -> str | None:
        """The same of what was printed as errors."""
        ...

    def write_stdin(self, data: str) -> None:
        """Says something to the program."""
        ...


class Answer:
    """An answer that goes on, line by line; it can be ended from another thread.

    Args:
        response: The response of the Kubernetes client's HTTP library.
        what: What it is, for the error.
    """

    def __init__(self, response: Any, what: str) -> None:
        self._response = response
        self._what = what

    def batches(self) -> Iterator[list[bytes]]:
        """Whole lines that came together, until the server, or `end`, ends it.

        Raises:
            ObservationError: It was broken off, or nothing came for too long.
        """
        rest = b""
        try:
            with contextlib.closing(self._response):
                for chunk in self._response.stream(amt=None, decode_content=False):
                    *lines, rest = (rest + chunk).split(b"\n")
                    if lines:
                        yield lines
        except Exception as error:
            raise ObservationError(f"{self._what}: {reason(error)}") from error

    def end(self) -> None:
        """Ends it, even while another thread reads it."""
        with contextlib.suppress(Exception):  # it has ended, or this version of urllib3 cannot (2.3 can)
            self._response.shutdown()


def printed_lines(channel: Channel, pod: str, until: threading.Event, patience: float) -> Iterator[str]:
    """Each line that a program prints, when it does; also the last ones of a program that has ended.

    The program gets a line on its standard input now and then.

    Args:
        channel: The websocket of its exec.
        pod: Where it runs, for the error.
        until: Set when nothing more is wanted.
        patience: Seconds without a line after which it is given up.

    Raises:
        CommandFailed: It was given up.
    """
    last = told = clock.now()
    while channel.is_open() and not until.is_set():
        line = channel.readline_stdout(timeout=_TURN)
        _forget_all(channel)
        if channel.is_open() and clock.now() - told > _SIGN_OF_LIFE:
            channel.write_stdin("\n")
            told = clock.now()
        if line:
            last = clock.now()
            yield line
        elif clock.now() - last > patience:
            raise CommandFailed(f"a program in pod {pod} has said nothing for {patience:g} s")
    if not until.is_set():  # once it is closed, `readline_stdout` gives nothing of what has come before
        *lines, _ = (channel.read_stdout(timeout=0) or "").split("\n")
        yield from filter(None, lines)


def _forget_all(channel: Channel) -> None:
    """The websocket client keeps a copy of all that it ever read, and `stream` has no way to tell it not to."""
    copy = getattr(channel, "_all", None)
    if isinstance(copy, io.StringIO):
        copy.seek(0)
        copy.truncate()
