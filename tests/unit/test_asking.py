"""What is sent to a cluster: which apps, by which paths, with which shares; the seed decides which comes when."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pytest_serve_chaos import RequestKind
from pytest_serve_chaos.cluster.asking import Asking, way_to
from pytest_serve_chaos.errors import SettingsError
from pytest_serve_chaos.model import Json
from pytest_serve_chaos.traffic.sources import RequestSource, in_turns


def config(**routes: str | None) -> dict[str, Json]:
    return {"applications": [{"name": name, "route_prefix": route} for name, route in routes.items()]}


ONE = config(scorer="/")
THREE = config(front="/", chat="/llm", vision="/vision")
HOME = "http://127.0.0.1:8000/"


def sent(source: RequestSource, number: int = 300) -> Counter[tuple[str, str, str]]:
    messages = [source.message(n) for n in range(number)]
    return Counter((message.app, message.method, message.path) for message in messages)


# -- apps and paths ----------------------------------------------------------------------------------------------------


def test_an_app_is_asked_at_its_route() -> None:
    assert sent(Asking().source(config(a="/llm"))) == {("", "GET", "/llm"): 300}


def test_a_path_is_asked_as_it_is() -> None:
    assert sent(Asking(path="/v1/score").source(ONE)) == {("", "GET", "/v1/score"): 300}


@pytest.mark.parametrize("path", ["/llm/v1/chat", "/v1/chat"])
def test_a_path_may_leave_out_the_route_of_the_only_app(path: str) -> None:
    assert sent(Asking(path=path).source(config(a="/llm"))) == {("", "GET", "/llm/v1/chat"): 300}


def test_each_app_with_a_route_gets_its_share() -> None:
    source = Asking().source(config(front="/", chat="/llm", vision="/vision", child=None))
    assert source.apps == ("front", "chat", "vision")
    found = sent(source)
    assert found.keys() == {("front", "GET", "/"), ("chat", "GET", "/llm"), ("vision", "GET", "/vision")}
    assert all(abs(number - 100) <= 2 for number in found.values())


def test_a_user_chooses_an_app() -> None:
    source = Asking(apps=("chat",), path="/v1/chat", method="POST").source(THREE)
    assert source.apps == ("chat",)
    assert sent(source) == {("", "POST", "/llm/v1/chat"): 300}


def test_a_path_chooses_its_app_as_serve_does() -> None:
    assert Asking(path="/llm/v1/chat").source(THREE).apps == ("chat",)
    assert Asking(path="/llms").source(THREE).apps == ("front",)


def test_what_tests_deploy_is_asked_only_by_name() -> None:
    more = config(front="/", added="/added", serve_chaos_canary_1="/serve_chaos_canary_1")
    assert Asking().source(more, usual=config(front="/")).apps == ("front",)
    assert Asking(apps=("added",)).source(more, usual=config(front="/")).apps == ("added",)


@pytest.mark.parametrize(
    ("asking", "why"),
    [
        (Asking(apps=("chatt",)), "no app 'chatt'"),
        (Asking(apps=("child",)), "has no route"),
        (Asking(kinds=(RequestKind(app="serve_chaos_canary_1"),)), "no app"),
        (Asking(path="/v2"), "below the route of no app"),
        (Asking(kinds=(RequestKind(app="a"),), apps=("b",)), "no request is for the app b"),
    ],
)
def test_what_no_app_answers_is_refused(asking: Asking, why: str) -> None:
    apps = config(a="/a", b="/b", child=None, serve_chaos_canary_1="/serve_chaos_canary_1")
    with pytest.raises(SettingsError, match=why):
        asking.source(apps)


# -- kinds of requests -------------------------------------------------------------------------------------------------


def test_a_request_says_what_differs_from_the_settings() -> None:
    asking = Asking(
        headers={"Authorization": "t", "x": "${n}"},
        path="/v1",
        kinds=(RequestKind(body={"k": 1}), RequestKind(method="DELETE", headers={"authorization": "u"})),
    )
    first, second = (asking.source(ONE).message(n) for n in (0, 1))
    assert (first.method, first.path) == ("POST", "/v1")
    assert first.headers == {"Authorization": "t", "x": "${n}", "content-type": "application/json"}
    assert (second.method, second.body, second.headers) == ("DELETE", None, {"x": "${n}", "authorization": "u"})


def test_requests_without_weights_come_in_order() -> None:
    kinds = tuple(RequestKind(path=f"/{n}") for n in range(3))
    source = Asking(kinds=kinds, seed=5).source(ONE)
    assert [source.message(n).path for n in range(6)] == ["/0", "/1", "/2", "/0", "/1", "/2"]


def blocks(*apps: str) -> RequestSource:
    """Requests to these apps in order, each with its number in the file."""
    kinds = tuple(RequestKind(app=app, headers={"n": str(n)}) for n, app in enumerate(apps))
    return Asking(kinds=kinds).source(THREE)


def test_apps_whose_requests_stand_in_blocks_take_turns_and_each_keeps_its_order() -> None:
    source = blocks(*["front"] * 40, *["chat"] * 40, *["vision"] * 20)
    messages = [source.message(n) for n in range(200)]
    assert Counter(message.app for message in messages[:10]) == {"front": 4, "chat": 4, "vision": 2}
    for app in source.apps:
        numbers = [int(message.headers["n"]) for message in messages if message.app == app]
        assert numbers[: len(numbers) // 2] == sorted(set(numbers)) == numbers[len(numbers) // 2 :]


def test_the_order_of_a_file_stays_where_no_app_waits_for_long() -> None:
    apps = ["front", "front", "chat", "front", "vision", "chat", "vision"]
    source = blocks(*apps)
    assert [source.message(n).headers["n"] for n in range(7)] == [str(n) for n in range(7)]


@given(st.lists(st.integers(0, 5), min_size=1, max_size=60))
def test_each_app_of_a_file_is_asked_all_the_time(numbers: list[int]) -> None:
    apps = [f"app{number}" for number in numbers]
    source = RequestSource([RequestKind(app=app, path="/") for app in apps], seed=0)
    asked = [apps[n] for n in in_turns(apps)]
    assert Counter(asked) == Counter(apps)
    for app in set(apps):
        places = [n for n, one in enumerate(asked * 2) if one == app]
        gap = max(b - a for a, b in pairwise(places))
        assert gap <= 2 / source.share_of(app) + 1
        assert source.longest_gap(app) <= max(gap, 1 / source.share_of(app))


def test_the_gap_of_a_name_is_that_of_its_block() -> None:
    kinds = [RequestKind(path="/", name="a")] * 30 + [RequestKind(path="/", name="b")] * 10
    source = RequestSource(kinds, seed=0)
    assert (source.longest_gap(name="a"), source.longest_gap(name="b")) == (11, 31)
    assert (source.share_of(name="a"), source.share_of(name="b")) == (0.75, 0.25)


def test_weights_decide_how_often_and_the_seed_when() -> None:
    kinds = (RequestKind(path="/often", weight=8), RequestKind(path="/seldom", weight=2))
    first, again, other = (Asking(kinds=kinds, seed=seed).source(ONE) for seed in (1, 1, 2))
    paths = [[source.message(n).path for n in range(500)] for source in (first, again, other)]
    assert paths[0] == paths[1] != paths[2]
    assert Counter(paths[0]) == {"/often": 400, "/seldom": 100}


def test_a_request_without_app_and_path_is_sent_to_each_app() -> None:
    kinds = (RequestKind(method="POST", weight=3), RequestKind(path="/llm/health", weight=1))
    source = Asking(kinds=kinds).source(THREE)
    assert abs(sent(source, 400)[("chat", "GET", "/llm/health")] - 100) <= 2
    assert [round(source.share_of(app), 3) for app in source.apps] == [0.25, 0.5, 0.25]
    assert source.least_share == 0.25


@given(st.lists(st.integers(1, 20), min_size=2, max_size=6), st.integers(0, 10**6), st.integers(0, 10**9))
def test_shares_are_even_over_any_stretch(weights: list[int], seed: int, begin: int) -> None:
    kinds = [RequestKind(path=f"/{n}", weight=weight) for n, weight in enumerate(weights)]
    source = RequestSource(kinds, seed=seed)
    found = Counter(source.message(begin + n).path for n in range(1000))
    for number, weight in enumerate(weights):
        assert abs(found[f"/{number}"] - 1000 * weight / sum(weights)) < 5


@given(st.integers(1, 60), st.integers(2, 4), st.integers(0, 10**6))
@example(55, 2, 0)
def test_no_app_waits_twice_as_long_as_on_average(kinds: int, apps: int, seed: int) -> None:
    """Many kinds that are each sent to each app: of 55 that two apps take in turns, each app would get 60 in a row."""
    routes = {f"app{n}": f"/{n}" for n in range(apps)}
    source = Asking(kinds=tuple(RequestKind(weight=1) for _ in range(kinds)), seed=seed).source(config(**routes))
    asked = [source.message(n).app for n in range(400)]
    for app in routes:
        places = [n for n, one in enumerate(asked) if one == app]
        assert max(b - a for a, b in pairwise(places)) < 2 * apps


def test_no_app_keeps_in_step_with_what_takes_turns() -> None:
    source = Asking().source(THREE)
    for turns in (2, 3, 4, 6):
        first = Counter(source.message(n).app for n in range(0, 300 * turns, turns))
        assert min(first.values()) > 90


def test_each_app_is_asked_once_at_the_start() -> None:
    kinds = (
        RequestKind(path="/llm/a", weight=1),
        RequestKind(path="/llm/b", weight=2),
        RequestKind(path="/", weight=1),
    )
    messages = Asking(kinds=kinds).source(THREE).one_of_each_app
    assert [(message.app, message.path) for message in messages] == [("chat", "/llm/b"), ("front", "/")]


# -- where they go -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "asking", "routes", "public", "at_proxy"),
    [
        (None, Asking(path="/v1"), ONE, "http://127.0.0.1:8000/v1", "/v1"),
        ("http://lb/", Asking(path="/v1"), ONE, "http://lb/v1", "/v1"),
        ("http://lb", Asking(), ONE, "http://lb", "/"),
        ("http://lb/v1/score?k=1", Asking(), ONE, "http://lb/v1/score?k=1", "/v1/score?k=1"),
        ("http://lb/llm", Asking(path="/v1"), config(a="/llm"), "http://lb/llm/v1", "/llm/v1"),
        ("http://lb/llm/", Asking(path="/llm/v1"), config(a="/llm"), "http://lb/llm/v1", "/llm/v1"),
        ("https://gw/prod/x", Asking(path="/v1"), config(a="/llm"), "https://gw/prod/x/v1", "/llm/v1"),
        ("https://gw/prod/x", Asking(), config(a="/llm"), "https://gw/prod/x", "/llm"),
        ("https://gw/prod", Asking(path="/v1"), ONE, "https://gw/prod/v1", "/v1"),
    ],
)
def test_a_url_stands_for_the_root_or_for_a_route(
    url: str | None, asking: Asking, routes: dict[str, Json], public: str, at_proxy: str
) -> None:
    way = way_to(asking, routes, home=HOME, url=url)
    message, alone = way.messages.message(0), way.at_proxy.message(0)
    assert (way.url.rstrip("/") + message.path if message.path else way.url) == public
    assert alone.path == at_proxy


def test_the_root_of_several_apps_is_not_one_of_them() -> None:
    assert way_to(Asking(), THREE, home=HOME, url="http://lb/").messages.apps == ("front", "chat", "vision")
    assert way_to(Asking(), THREE, home=HOME, url="http://lb/llm").messages.apps == ("chat",)
    assert way_to(Asking(), THREE, home=HOME, url="http://lb/", exact=True).messages.apps == ("front",)
