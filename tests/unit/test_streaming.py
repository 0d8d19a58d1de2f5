from __future__ import annotations

import io
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from pytest_serve_chaos.cluster.kubernetes.client import streaming
from pytest_serve_chaos.cluster.kubernetes.client.api import KubeApi
from pytest_serve_chaos.cluster.kubernetes.client.streaming import Answer, printed_lines
from pytest_serve_chaos.errors import CommandFailed, ObservationError
from tests.unit.http_servers import Manners, Reader, Writer, request_line, response, says, serving
from tests.unit.test_kind_programs import KUBECONFIG


def chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


BEGINNING = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def goes_on(*chunks: bytes, asked: list[str] | None = None) -> Manners:
    """Sends these pieces, and then nothing for long."""

    async def manners(reader: Reader, writer: Writer) -> None:
        line = await request_line(reader)
        if asked is not None:
            asked.append(line)
        writer.write(BEGINNING)
        for data in chunks:
            writer.write(chunk(data))
            await writer.drain()
        await reader.read()

    return manners


def api_at(url: str, directory: Path) -> KubeApi:
    server = url.removesuffix("/route")
    (directory / "kubeconfig").write_text(KUBECONFIG.replace("http://127.0.0.1:9", server))
    return KubeApi(directory / "kubeconfig", namespace="ml")


def follow(api: KubeApi, wait: float = 30.0) -> Answer:
    return api.pod_logs.open("pod-h", "ml", container="ray-head", wait=wait, follow=True, since_seconds=7)


def test_lines_of_a_log_come_when_they_are_written_and_whole(tmp_path: Path) -> None:
    asked: list[str] = []
    with serving(goes_on(b"one\ntw", b"o\n", asked=asked)) as url:
        api = api_at(url, tmp_path)
        answer = follow(api)
        batches = answer.batches()
        assert [next(batches), next(batches)] == [[b"one"], [b"two"]]
        answer.end()
        with pytest.raises(ObservationError, match="the log of pod pod-h"):
            next(batches)
        api.close()
    path, _, query = asked[0].split()[1].partition("?")
    assert path == "/api/v1/namespaces/ml/pods/pod-h/log"
    assert set(query.split("&")) == {"container=ray-head", "follow=true", "sinceSeconds=7", "timestamps=true"}


def test_a_log_that_is_quiet_can_be_ended_from_another_thread(tmp_path: Path) -> None:
    with serving(goes_on(b"one\n")) as url:
        api = api_at(url, tmp_path)
        answer = follow(api)
        batches = answer.batches()
        next(batches)
        begun = time.monotonic()
        threading.Timer(0.2, answer.end).start()
        with pytest.raises(ObservationError):
            next(batches)
        assert time.monotonic() - begun < 15.0
        answer.end()  # once more
        api.close()


def test_a_log_of_which_nothing_comes_for_too_long_is_given_up(tmp_path: Path) -> None:
    with serving(goes_on()) as url:
        api = api_at(url, tmp_path)
        with pytest.raises(ObservationError, match="timed out"):
            list(follow(api, wait=0.2).batches())
        api.close()


def test_a_log_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with serving(says(response(b'{"message": "container is waiting to start"}', status="400 Bad Request"))) as url:
        api = api_at(url, tmp_path)
        with pytest.raises(ObservationError, match="waiting to start"):
            follow(api)
        api.close()


def test_a_watch_that_says_nonsense_is_an_error_like_others(tmp_path: Path) -> None:
    with serving(goes_on(b"no JSON\n")) as url:
        api = api_at(url, tmp_path)
        with pytest.raises(ObservationError, match="the watch of pods"):
            next(api.pod_changes.since("1", seconds=2))
        api.close()


class Channel:
    """A websocket: each turn gives what comes next, and after the last it is closed with the rest unread."""

    def __init__(self, *turns: str, rest: str = "") -> None:
        self.turns = list(turns)
        self.rest = rest
        self._all = io.StringIO("".join(turns))

    def is_open(self) -> bool:
        return bool(self.turns)

    def readline_stdout(self, timeout: float) -> str:
        return self.turns.pop(0)

    def write_stdin(self, data: str) -> None:
        pass

    def read_stdout(self, timeout: float) -> str:
        return self.rest


def lines(channel: Channel, *, patience: float = 10.0, until: threading.Event | None = None) -> Iterator[str]:
    return printed_lines(cast("streaming.Channel", channel), "pod-h", until or threading.Event(), patience)


def test_the_last_lines_of_a_program_that_was_ended_are_not_lost() -> None:
    assert list(lines(Channel("one", "", rest="two\n\nthree\nhalf a l"))) == ["one", "two", "three"]


def test_a_program_that_says_nothing_is_given_up() -> None:
    with pytest.raises(CommandFailed, match="has said nothing"):
        list(lines(Channel("", ""), patience=-1.0))


def test_what_nobody_wants_any_more_is_not_read() -> None:
    until = threading.Event()
    printed = lines(Channel("one", "two", rest="three\n"), until=until)
    assert next(printed) == "one"
    until.set()
    assert list(printed) == []


def test_the_copy_of_all_that_was_read_does_not_grow() -> None:
    channel = Channel("one", "two")
    assert list(lines(channel)) == ["one", "two"]
    assert channel._all.getvalue() == ""
