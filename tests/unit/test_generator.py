"""The generator of traffic: what it sends and when, and one kept connection for each proxy behind one address."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import itertools
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from pytest_serve_chaos import clock
from pytest_serve_chaos.clock import NotYet
from pytest_serve_chaos.errors import ServeChaosError, SettingsError
from pytest_serve_chaos.history import History
from pytest_serve_chaos.model import Request
from pytest_serve_chaos.schedule import Schedule
from pytest_serve_chaos.traffic import kept
from pytest_serve_chaos.traffic.generator import Generator
from pytest_serve_chaos.traffic.kept import KeptLane, Persistent, SharedAddress
from pytest_serve_chaos.traffic.request import Answer, RequestSpec
from pytest_serve_chaos.traffic.sending import Sending
from pytest_serve_chaos.traffic.transports.http import Http
from tests.unit.http_servers import (
    Manners,
    Reader,
    Writer,
    answers,
    changing,
    refusing,
    request_line,
    resets,
    response,
    serving,
    stalls,
)


def stream(history: History, name: str) -> list[Request]:
    return sorted((r for r in history.requests if r.stream == name), key=lambda r: r.index)


def assert_complete(requests: list[Request]) -> None:
    """None is missing and none is there twice."""
    assert [r.index for r in requests] == list(range(len(requests)))


# -- the open loop --


def test_requests_are_sent_at_constant_spacing_and_all_recorded() -> None:
    history = History()
    with serving(answers()) as url, Generator(Sending.of(RequestSpec(url), Http()), rate=100, history=history):
        time.sleep(0.2)
    requests = stream(history, "fresh")
    assert_complete(requests)
    assert len(requests) >= 20
    assert not any(r.lost for r in requests)
    spacings = [later.scheduled - earlier.scheduled for earlier, later in itertools.pairwise(requests)]
    assert spacings == pytest.approx([0.01] * len(spacings))


def test_stages_begin_when_somebody_says_so_and_a_higher_rate_begins_at_once() -> None:
    history = History()
    with serving(answers()) as url:
        schedule = Schedule.of("1/s for 200ms, 100/s")
        with Generator(Sending.of(RequestSpec(url), Http()), rate=schedule, history=history) as generator:
            clock.wait_until("the first", lambda: len(history.requests) >= 1 or NotYet(""), timeout=9, interval=0.01)
            begun = clock.now()
            generator.begin_stages(begun)
            clock.wait_until("more", lambda: len(history.requests) >= 20 or NotYet(""), timeout=9, interval=0.01)
    requests = stream(history, "fresh")
    assert_complete(requests)
    # The second would have been due after a second; a part of it was due when the rate changed.
    assert begun + 0.2 < requests[1].scheduled < begun + 0.211
    spacings = [later.scheduled - earlier.scheduled for earlier, later in itertools.pairwise(requests[1:])]
    assert spacings == pytest.approx([0.01] * len(spacings))


def test_stages_that_begin_when_traffic_has_ended_change_nothing() -> None:
    history = History()
    with serving(answers()) as url:
        generator = Generator(
            Sending.of(RequestSpec(url), Http()), rate=Schedule.of("9/s for 1s, 100/s"), history=history
        )
        generator.begin_stages(clock.now())
        generator.start()
        generator.stop()
        generator.begin_stages(clock.now())
    assert_complete(stream(history, "fresh"))


def test_requests_are_sent_whatever_the_answers_do() -> None:
    history = History()
    with (
        serving(stalls) as url,
        Generator(Sending.of(RequestSpec(url), Http()), rate=100, history=history) as generator,
    ):
        clock.wait_until("a crowd", lambda: generator.in_flight >= 20 or NotYet(""), timeout=4, interval=0.01)
        assert history.requests == ()
        generator.stop(drain=0.0)
    assert generator.in_flight == 0
    assert generator.most_in_flight >= 20


def test_a_request_without_an_answer_is_lost_and_its_latency_is_its_timeout() -> None:
    history = History()
    with (
        serving(stalls) as url,
        Generator(Sending.of(RequestSpec(url, timeout=0.3), Http()), rate=50, history=history) as generator,
    ):
        time.sleep(0.1)
        generator.stop(drain=60)
    assert history.requests
    assert {r.error for r in history.requests} <= {"ReadTimeout", "ConnectTimeout"}
    assert all(r.latency >= 0.3 for r in history.requests)


def test_latency_counts_from_the_scheduled_time() -> None:
    history = History()
    with serving(answers(after=0.1)) as url, Generator(Sending.of(RequestSpec(url), Http()), rate=20, history=history):
        time.sleep(0.2)
    assert all(r.finished - r.scheduled >= 0.1 + r.lag for r in history.requests)


def test_requests_go_on_when_a_server_is_away_and_are_good_when_it_is_back() -> None:
    history = History()
    with refusing() as url:
        port = int(url.rsplit(":", 1)[1].strip("/"))
        with Generator(Sending.of(RequestSpec(url), Http()), rate=100, history=history) as generator:
            clock.wait_until("losses", lambda: len(history.requests) > 5 or NotYet(""), timeout=5, interval=0.01)
            assert {r.error for r in history.requests} == {"ConnectError"}
            with serving(answers(), port=port):
                back = clock.now()
                time.sleep(0.2)
                generator.stop()
    after = [r for r in history.requests if r.scheduled > back]
    assert len(after) >= 19
    assert not any(r.lost for r in after)


# -- no record is lost --


def test_what_is_in_flight_at_the_end_is_waited_for() -> None:
    history = History()
    with (
        serving(answers(after=0.2)) as url,
        Generator(Sending.of(RequestSpec(url), Http()), rate=50, history=history) as generator,
    ):
        time.sleep(0.1)
        asked = clock.now()
        generator.stop()
        assert generator.in_flight == 0
    requests = stream(history, "fresh")
    assert_complete(requests)
    assert asked - 1 / 50 < requests[-1].scheduled
    assert not any(r.lost for r in requests)


def test_what_takes_longer_than_the_drain_is_recorded_as_unfinished() -> None:
    history = History()
    with serving(stalls) as url:
        spec = RequestSpec(url, timeout=60)
        generator = Generator(
            Sending.of(spec, Http()), rate=100, history=history, persistent=Persistent(20, [KeptLane()])
        )
        generator.start()
        clock.wait_until("a crowd", lambda: generator.in_flight >= 20 or NotYet(""), timeout=60, interval=0.01)
        generator.stop(drain=0.1)
    fresh, kept = stream(history, "fresh"), stream(history, "kept:0")
    assert_complete(fresh)
    assert_complete(kept)
    assert {r.error for r in fresh if r.sent is not None} == {"Unfinished"}
    assert {r.error for r in fresh if r.sent is None} <= {"NotSent"}
    # A persistent connection carries one request at a time, and meanwhile none becomes due.
    assert [r.error for r in kept] == ["Unfinished"]


def test_stop_may_be_called_twice_and_before_the_start() -> None:
    with refusing() as url:
        generator = Generator(Sending.of(RequestSpec(url), Http()), rate=10, history=History())
        generator.stop()
        generator.start()
        generator.stop()
        generator.stop()


def test_a_history_that_cannot_be_written_is_told_at_the_end() -> None:
    class Full(History):
        def add_request(self, request: Request) -> None:
            raise OSError("no space left on device")

    with serving(answers()) as url:
        generator = Generator(Sending.of(RequestSpec(url), Http()), rate=100, history=Full())
        with contextlib.suppress(ServeChaosError):
            generator.start()  # tells it already, where the first request has ended by then
        with pytest.raises(ServeChaosError, match="no space left on device"):
            generator.stop()


# -- whether it kept up --


def test_a_starved_generator_shows_its_lag() -> None:
    def slow_check(answer: Answer) -> bool:
        time.sleep(0.02)
        return True

    history = History()
    with serving(answers()) as url:
        with Generator(Sending.of(RequestSpec(url, check=slow_check), Http()), rate=100, history=history) as generator:
            time.sleep(0.1)
        assert generator.send_lag(0.99) > 0.018
    assert_complete(stream(history, "fresh"))
    assert max(r.lag for r in history.requests) == generator.send_lag(1.0)


def test_a_generator_that_is_held_up_says_so_while_it_lasts() -> None:
    release = threading.Event()
    with serving(answers()) as url:
        spec = RequestSpec(url, check=lambda _: release.wait(5))
        with Generator(Sending.of(spec, Http()), rate=50, history=History()) as generator:
            deadline = time.monotonic() + 4.0
            while generator.behind <= 0.05 and time.monotonic() < deadline:
                time.sleep(0.01)
            behind = generator.behind
            release.set()
        assert behind > 0.05
        assert generator.behind == 0.0


def test_threads_take_shorter_turns_only_while_there_is_traffic() -> None:
    before = sys.getswitchinterval()
    with refusing() as url, Generator(Sending.of(RequestSpec(url), Http()), rate=10, history=History()):
        assert sys.getswitchinterval() < before / 5
    assert sys.getswitchinterval() == before


def test_what_was_there_before_makes_no_collection_of_garbage_long_while_there_is_traffic() -> None:
    with refusing() as url, Generator(Sending.of(RequestSpec(url), Http()), rate=10, history=History()):
        assert gc.get_freeze_count() > 0
    assert gc.get_freeze_count() == 0


def test_objects_that_somebody_else_froze_stay_so() -> None:
    gc.freeze()
    try:
        with refusing() as url, Generator(Sending.of(RequestSpec(url), Http()), rate=10, history=History()):
            pass
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()


def test_a_rate_beyond_all_means_shows_its_lag_and_still_records_everything() -> None:
    history = History()
    with (
        refusing() as url,
        Generator(Sending.of(RequestSpec(url), Http()), rate=20_000, history=history, in_flight_limit=100) as generator,
    ):
        time.sleep(0.05)
        asked = clock.now()
        generator.stop(drain=0.0)
    requests = stream(history, "fresh")
    assert_complete(requests)
    assert requests[-1].scheduled > asked - 1 / 20_000
    assert generator.send_lag(1.0) > 0.02 or generator.not_sent > 0


def test_requests_beyond_the_limit_in_flight_are_recorded_as_not_sent() -> None:
    history = History()
    with serving(stalls) as url:
        generator = Generator(Sending.of(RequestSpec(url), Http()), rate=100, history=history, in_flight_limit=5)
        generator.start()
        time.sleep(0.2)
        generator.stop(drain=0.0)
    requests = stream(history, "fresh")
    assert_complete(requests)
    assert {r.error for r in requests[:5]} == {"Unfinished"}
    assert {(r.error, r.sent) for r in requests[5:]} == {("NotSent", None)}
    assert generator.not_sent == len(requests) - 5
    assert generator.most_in_flight == 5


# -- kept connections --


def test_each_kept_connection_has_its_own_schedule_alongside_the_main_stream() -> None:
    history = History()
    paths = {"kept:0": "proxies", "kept:1": "proxy on worker-1"}

    def five_on_each() -> bool | NotYet:
        sent = [len(stream(history, name)) for name in paths]
        return min(sent) >= 5 or NotYet(f"there are {sent}")

    with serving(answers()) as url:
        lanes = [KeptLane(), KeptLane("proxy on worker-1", RequestSpec(url + "?direct"))]
        with Generator(
            Sending.of(RequestSpec(url), Http()), rate=50, history=history, persistent=Persistent(20, lanes)
        ) as generator:
            clock.wait_until("five requests on each", five_on_each, timeout=10.0, interval=0.02)
            assert generator.kept_paths == paths
    for name, path in paths.items():
        requests = stream(history, name)
        assert_complete(requests)
        assert {(r.path, r.error, r.kept) for r in requests} == {(path, None, True)}
    assert stream(history, "kept:1")[0].scheduled - stream(history, "kept:0")[0].scheduled == pytest.approx(0.025)


def test_a_persistent_connection_adapts_to_answers_that_take_longer_than_its_period() -> None:
    history = History()
    with serving(answers(after=0.25)) as url:
        spec = RequestSpec(url, timeout=60)
        with Generator(Sending.of(spec, Http()), rate=1, history=history, persistent=Persistent(10, [KeptLane()])):
            time.sleep(1.2)
    requests = stream(history, "kept:0")
    assert_complete(requests)
    assert {r.error for r in requests} == {None}
    assert len(requests) >= 3
    first = requests[0].scheduled
    for before, request in itertools.pairwise(requests):
        # It is due at the first moment of the schedule that was not over when the answer came.
        slot = (request.scheduled - first) * 10
        assert slot == pytest.approx(round(slot), abs=1e-6)
        assert 0 <= request.scheduled - before.finished <= 0.1 + 1e-6


def test_each_request_on_a_persistent_connection_has_its_whole_timeout() -> None:
    history = History()
    with serving(stalls) as url:
        spec = RequestSpec(url, timeout=0.4)
        with Generator(Sending.of(spec, Http()), rate=1, history=history, persistent=Persistent(10, [KeptLane()])):
            time.sleep(1.2)
    requests = stream(history, "kept:0")
    assert_complete(requests)
    assert len(requests) >= 2
    assert {r.error for r in requests} <= {"ReadTimeout", "ConnectTimeout"}
    assert all(r.latency >= 0.4 for r in requests)
    assert all(request.scheduled >= before.finished for before, request in itertools.pairwise(requests))


def test_a_request_on_a_persistent_connection_that_was_sent_before_the_stop_is_recorded() -> None:
    history = History()
    with serving(answers(after=0.3)) as url:
        spec = RequestSpec(url, timeout=60)
        with Generator(Sending.of(spec, Http()), rate=1, history=history, persistent=Persistent(10, [KeptLane()])):
            clock.wait_until("a request", lambda: any(r.kept for r in history.pending()) or NotYet(""), timeout=10)
            asked = clock.now()
    assert stream(history, "kept:0")[-1].scheduled <= asked
    assert not any(r.lost for r in stream(history, "kept:0"))
    assert history.pending() == ()


def test_a_request_that_is_lost_makes_none_behind_it_late() -> None:
    over = threading.Event()

    async def holds(reader: Reader, writer: Writer) -> None:
        await asyncio.to_thread(over.wait, 60)
        await resets(reader, writer)

    history = History()
    with serving(answers()) as url, serving(changing(holds, answers())) as holding_once:
        lane = KeptLane(spec=RequestSpec(holding_once, timeout=60))
        with Generator(
            Sending.of(RequestSpec(url), Http()), rate=1, history=history, persistent=Persistent(10, [lane])
        ):
            time.sleep(0.3)
            over.set()
            clock.wait_until("another", lambda: len(stream(history, "kept:0")) > 1 or NotYet(""), timeout=60)
    first, *others = stream(history, "kept:0")
    assert first.error == "ReadError"
    assert not any(r.lost for r in others)
    assert others[0].scheduled >= first.finished
    assert others[0].index == 1


# -- settings --


def test_a_rate_of_nothing_is_refused() -> None:
    with pytest.raises(SettingsError, match="persistent_rate"):
        Persistent(0)


# -- proxies behind one address --


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
            Sending.of(RequestSpec(shared.url), Http()),
            rate=1,
            history=history,
            persistent=Persistent(20, shared=SharedAddress(("a", "b", "c"), shared.taken_by.get)),
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
            Sending.of(RequestSpec(shared.url, timeout=0.3), Http()),
            rate=1,
            history=History(),
            persistent=Persistent(shared=SharedAddress(("a", "b"), shared.taken_by.get, search_for=60)),
        )
        with generator:
            assert generator.kept_paths == {"kept:0": "a"}


@pytest.mark.parametrize(("timeout", "longest"), [(5.0, 25.0), (15.0, 55.0), (600.0, 60.0)])
def test_the_search_for_proxies_waits_for_slow_answers(timeout: float, longest: float) -> None:
    assert SharedAddress(("a",), lambda _: None).seconds(timeout) == longest


def test_where_nobody_can_tell_the_proxies_none_gets_a_kept_connection() -> None:
    with serving(answers()) as url:
        generator = Generator(
            Sending.of(RequestSpec(url), Http()),
            rate=1,
            history=History(),
            persistent=Persistent(shared=SharedAddress(("a",), lambda _: None, search_for=0.2)),
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
            Sending.of(RequestSpec(shared.url), Http()),
            rate=1,
            history=history,
            persistent=Persistent(50, shared=SharedAddress(("a",), proxy_of)),
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


class Reloads:
    """A proxy that ends a connection politely whenever it was reloaded since it was opened."""

    def __init__(self) -> None:
        self.generation = 0

    async def __call__(self, reader: Reader, writer: Writer) -> None:
        opened = self.generation
        while await request_line(reader):
            last = self.generation != opened
            writer.write(response(headers="Connection: close\r\n" if last else ""))
            if last:
                return


def test_a_kept_connection_finds_its_proxy_again_after_a_reload(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "_SEARCH_AFTER", (0.05, 0.05, 0.05))
    history = History()
    reloads = Reloads()
    with (
        sharing(a=reloads, b=answers(), c=answers(), d=answers()) as shared,
        Generator(
            Sending.of(RequestSpec(shared.url), Http()),
            rate=1,
            history=history,
            persistent=Persistent(
                50, shared=SharedAddress(("a", "b"), shared.taken_by.get, stays=lambda name: name == "a")
            ),
        ) as generator,
    ):
        for _ in range(3):
            reloads.generation += 1
            seen = len(stream(history, "kept:0"))
            clock.wait_until(
                "its proxy to be found again",
                lambda seen=seen: (  # type: ignore[misc]
                    [r.path for r in stream(history, "kept:0")[seen + 3 :]][-3:] == ["a"] * 3
                    or NotYet(str(generator.kept_paths))
                ),
                timeout=10,
                interval=0.02,
            )
    assert {r.error for r in history.requests} == {None}
    assert {r.path for r in stream(history, "kept:1")} == {"b"}


def test_an_error_in_naming_the_proxies_that_is_no_such_answer_is_raised_at_the_start() -> None:
    def broken(address: tuple[str, int]) -> str | None:
        raise KeyError(address)

    persistent = Persistent(shared=SharedAddress(("a",), broken))
    with serving(answers()) as url:
        generator = Generator(Sending.of(RequestSpec(url), Http()), rate=1, history=History(), persistent=persistent)
        with pytest.raises(ServeChaosError, match="traffic broke down: KeyError"):
            generator.start()
