"""One kept connection for each proxy behind one address: which leads to which, and which is searched for."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from pytest_serve_chaos import clock
from pytest_serve_chaos.errors import ServeChaosError
from pytest_serve_chaos.history import History
from pytest_serve_chaos.traffic import generator as generator_module
from pytest_serve_chaos.traffic import kept
from pytest_serve_chaos.traffic.generator import Generator
from pytest_serve_chaos.traffic.request import RequestSpec
from pytest_serve_chaos.traffic.transports.base import PersistentSender
from pytest_serve_chaos.traffic.transports.http import Http
from tests.unit.http_servers import Manners, Reader, Writer, answers, serving, stalls
from tests.unit.test_generator import assert_complete, stream


@dataclass
class SharedPort:
    """Proxies behind one port that get its connections in turn, and who took which."""

    proxies: dict[str, Manners]
    url: str = ""
    taken_by: dict[tuple[str, int], str] = field(default_factory=dict)
    turn: Iterator[int] = field(default_factory=itertools.count)
    hang_up: list[tuple[str, Callable[[], object]]] = field(default_factory=list)

    async def deal(self, reader: Reader, writer: Writer) -> None:
        names = list(self.proxies)
        name = names[next(self.turn) % len(names)]
        self.taken_by[writer.get_extra_info("peername")] = name
        loop = asyncio.get_running_loop()
        self.hang_up.append((name, functools.partial(loop.call_soon_threadsafe, writer.transport.abort)))
        await self.proxies[name](reader, writer)

    def end(self, ended: str) -> None:
        """Takes a proxy away, with its connections."""
        del self.proxies[ended]
        for name, hang_up in self.hang_up:
            if name == ended:
                hang_up()


@contextlib.contextmanager
def sharing(**proxies: Manners) -> Iterator[SharedPort]:
    shared = SharedPort(proxies)
    with serving(shared.deal) as shared.url:
        yield shared


def test_each_proxy_gets_one_kept_connection_and_the_search_is_not_recorded() -> None:
    history = History()
    with sharing(a=answers(), b=answers(), c=answers()) as shared:
        with Generator(
            RequestSpec(shared.url),
            transport=Http(),
            rate=1,
            history=history,
            persistent_rate=20,
            proxies=("a", "b", "c"),
            proxy_of=shared.taken_by.get,
        ) as generator:
            assert generator.kept_paths == {"kept:0": "a", "kept:1": "b", "kept:2": "c"}
            time.sleep(0.1)  # The last ones that were opened in vain may be taken a little later.
            searched = len(shared.taken_by)
            time.sleep(0.2)
        assert len(shared.taken_by) <= searched + len(stream(history, "fresh"))
    assert {r.stream for r in history.requests} == {"fresh", "kept:0", "kept:1", "kept:2"}
    for number, name in enumerate("abc"):
        requests = stream(history, f"kept:{number}")
        assert_complete(requests)
        assert {(r.path, r.error) for r in requests} == {(name, None)}


def test_a_proxy_that_hangs_gets_no_kept_connection_and_the_other_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "_TRIES_PER_PROXY", 8)
    with sharing(a=answers(), b=stalls) as shared:
        generator = Generator(
            RequestSpec(shared.url, timeout=0.3),
            transport=Http(),
            rate=1,
            history=History(),
            proxies=("a", "b"),
            proxy_of=shared.taken_by.get,
            open_timeout=60,
        )
        with generator:
            assert generator.kept_paths == {"kept:0": "a"}


@pytest.mark.parametrize(("timeout", "longest"), [(5.0, 25.0), (30.0, 100.0), (600.0, 190.0)])
def test_the_search_for_proxies_waits_for_slow_answers(
    timeout: float, longest: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []

    async def found(*_: object, timeout: float) -> dict[str, PersistentSender]:
        waited.append(timeout)
        return {}

    monkeypatch.setattr(generator_module, "connect_to_each", found)
    spec = RequestSpec("http://127.0.0.1:9", timeout=timeout)
    with (
        serving(answers()),
        Generator(
            spec, transport=Http(), rate=1, history=History(), proxies=("a",), proxy_of=lambda _: None
        ) as traffic,
    ):
        traffic.stop(drain=0.0)
    assert waited == [longest]


def test_where_nobody_can_tell_the_proxies_none_gets_a_kept_connection() -> None:
    with serving(answers()) as url:
        generator = Generator(
            RequestSpec(url),
            transport=Http(),
            rate=1,
            history=History(),
            proxies=("a",),
            proxy_of=lambda _: None,
            open_timeout=0.2,
        )
        with generator:
            assert generator.kept_paths == {}


@pytest.mark.parametrize(("known", "path"), [(("a", "b"), "b"), (("a",), "proxies")])
def test_a_kept_connection_goes_by_the_name_of_the_proxy_that_it_leads_to_now(
    known: tuple[str, ...], path: str
) -> None:
    history = History()

    def proxy_of(address: tuple[str, int]) -> str | None:
        name = shared.taken_by.get(address)
        return name if name in known else None

    with (
        sharing(a=answers(), b=answers()) as shared,
        Generator(
            RequestSpec(shared.url),
            transport=Http(),
            rate=1,
            history=history,
            persistent_rate=50,
            proxies=("a",),
            proxy_of=proxy_of,
        ) as generator,
    ):
        assert generator.kept_paths == {"kept:0": "a"}
        shared.end("a")
        clock.wait_until(
            "the path to change",
            lambda: generator.kept_paths["kept:0"] == path or clock.NotYet(str(generator.kept_paths)),
            timeout=5,
            interval=0.01,
        )
        time.sleep(0.1)
    paths = [r.path for r in stream(history, "kept:0")]
    assert paths[-1] == path
    assert set(paths) <= {"a", "proxies", path}


def test_an_error_in_naming_the_proxies_that_is_no_such_answer_is_told_at_the_start() -> None:
    def broken(address: tuple[str, int]) -> str | None:
        raise KeyError(address)

    with serving(answers()) as url:
        generator = Generator(
            RequestSpec(url), transport=Http(), rate=1, history=History(), proxies=("a",), proxy_of=broken
        )
        with pytest.raises(ServeChaosError, match="traffic broke down: KeyError"):
            generator.start()
