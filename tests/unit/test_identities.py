from __future__ import annotations

import pytest

from pytest_serve_chaos.analysis.identities import Selector, kept, missing, parse_selector, replaced
from pytest_serve_chaos.errors import SettingsError
from tests.unit.histories import HEAD_PARTS, cluster, component

BEFORE = cluster()
NEW_HEAD = cluster(new=HEAD_PARTS)


@pytest.mark.parametrize(
    ("text", "selector"),
    [
        ("controller", Selector("controller")),
        ("replicas", Selector("replica")),
        ("proxies@head", Selector("proxy", "head")),
        ("replica@workers", Selector("replica", "workers")),
        ("workers", Selector("worker")),
    ],
)
def test_a_selector_is_a_role_and_perhaps_a_place(text: str, selector: Selector) -> None:
    assert parse_selector(text) == selector


@pytest.mark.parametrize("text", ["pod", "", "replica@", "@head", "replicass"])
def test_an_unknown_role_is_refused_with_those_that_are_known(text: str) -> None:
    with pytest.raises(SettingsError, match="head, worker, gcs, raylet, controller, proxy, replica, redis"):
        parse_selector(text)


@pytest.mark.parametrize("selector", ["head", "gcs", "controller", "proxy@head"])
def test_a_lost_head_takes_its_parts_with_it(selector: str) -> None:
    assert replaced(BEFORE, NEW_HEAD, selector).holds
    assert not kept(BEFORE, NEW_HEAD, selector).holds


@pytest.mark.parametrize("selector", ["workers", "replicas", "replicas@workers", "proxy@workers", "worker@worker-1"])
def test_the_workers_outlive_the_head(selector: str) -> None:
    assert kept(BEFORE, NEW_HEAD, selector).holds
    assert not replaced(BEFORE, NEW_HEAD, selector).holds


def test_one_of_many_that_is_new_is_neither_all_kept_nor_all_replaced() -> None:
    assert kept(BEFORE, NEW_HEAD, "proxies").reason == "1 of 3 proxies not kept: proxy on head (PID 150)"
    assert replaced(BEFORE, NEW_HEAD, "proxies").reason.startswith("2 of 3 proxies not replaced: proxy on worker-1")


def test_what_is_gone_and_not_there_again_was_not_replaced() -> None:
    after = cluster(without=("controller",))
    assert replaced(BEFORE, after, "controller").reason == "not replaced: only 0 of 1 controller there again"


def test_a_replica_that_came_up_on_another_node_does_not_replace_the_one_on_this() -> None:
    after = cluster(without=("replica@worker-2",))
    assert not replaced(BEFORE, after, "replica@worker-2").holds


def test_what_is_known_to_be_gone_is_gone_even_if_it_is_still_shown() -> None:
    zombie = component("controller", "head").identity
    assert kept(BEFORE, BEFORE, "controller").holds
    assert not kept(BEFORE, BEFORE, "controller", gone=[zombie]).holds
    assert not replaced(BEFORE, BEFORE, "controller", gone=[zombie]).holds


def test_nothing_matched_is_neither_kept_nor_replaced() -> None:
    for finding in (kept(BEFORE, BEFORE, "replica@head"), replaced(BEFORE, BEFORE, "replica@head")):
        assert not finding.holds
        assert finding.reason == "there was no replica@head before the fault; it was seen on worker-1, worker-2"
    assert kept(BEFORE, BEFORE, "redis").reason == "there was no redis before the fault; no redis was seen at all"
    reason = kept(BEFORE, BEFORE, "proxy@others", victims=[c.identity for c in BEFORE.of("proxy")]).reason
    assert reason == "there was no proxy@others before the fault; each proxy was a victim"
    reason = replaced(BEFORE, BEFORE, "proxy@victims", victims=[]).reason
    assert reason == "there was no proxy@victims before the fault; no proxy was a victim"


def test_victims_are_told_from_the_others() -> None:
    victim = component("replica", "worker-1", number=1)
    others = [c for c in BEFORE.components if c.identity != victim.identity]
    fresh = component("replica", "worker-2", incarnation=2, number=7)
    after = type(BEFORE)(1.0, (*others, fresh))
    victims = [victim.identity]
    assert replaced(BEFORE, after, "replica@victims", victims=victims).holds
    assert kept(BEFORE, after, "replica@others", victims=victims).holds
    assert not kept(BEFORE, after, "replica@victims", victims=victims).holds
    assert not replaced(BEFORE, type(BEFORE)(1.0, tuple(others)), "replica@victims", victims=victims).holds


def test_what_is_missing_has_a_name() -> None:
    assert missing(BEFORE, NEW_HEAD) == ""
    after = cluster(without=("replica@worker-2", "controller"))
    assert missing(BEFORE, after) == "controller, 2 x replica default#SleepyPid on worker-2"
