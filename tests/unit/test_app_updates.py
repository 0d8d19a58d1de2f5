"""Updates of an app: what is asked for, the config that results, and when Serve has completed it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_serve_chaos.checks.surviving import least
from pytest_serve_chaos.cluster.app_updates import NEW_VERSION, Bad, Change, Wanted, plan
from pytest_serve_chaos.cluster.base import ClusterSpec
from pytest_serve_chaos.cluster.rest import ReplicaRow, ServeStatus
from pytest_serve_chaos.cluster.serve_config import applications, name_of
from pytest_serve_chaos.errors import NoSuchTarget, SettingsError, Unsupported
from pytest_serve_chaos.faults.app_update import FAULT, AppUpdated
from pytest_serve_chaos.model import Json
from pytest_serve_chaos.observe.observer import Report
from tests.unit.rigs import cluster_with, rig_around

CONFIG: dict[str, Json] = {
    "proxy_location": "EveryNode",
    "applications": [
        {"name": "hidden", "route_prefix": None, "import_path": "hidden:app"},
        {"name": "shop", "route_prefix": "/", "import_path": "shop:app", "args": {"size": 3}},
        {"route_prefix": "/more", "import_path": "more:app"},
    ],
}


def status(**changes: object) -> ServeStatus:
    targets = {"hidden#Job": 1, "shop#Front": 4, "shop#Back": 2, "default#Only": 1}
    whole = ServeStatus(
        apps={"hidden": "RUNNING", "shop": "RUNNING", "default": "RUNNING"},
        targets=targets,
        deployments=dict.fromkeys(targets, "HEALTHY"),
        messages={},
        replicas=(),
        proxies={},
        controller="c",
        handles={"shop#Front": ("shop#Back",)},
        options={
            "shop#Front": {"max_ongoing_requests": 5},
            "default#Only": {"autoscaling_config": {"max_replicas": 3}},
        },
    )
    return replace(whole, **changes)  # type: ignore[arg-type]


def app_of(config: Mapping[str, Json], name: str) -> dict[str, Json]:
    (found,) = [app for app in applications(config) if name_of(app) == name]
    return found


# -- the config that results -------------------------------------------------------------------------------------------


def test_a_new_version_is_the_same_app_under_another_import_path() -> None:
    planned = plan(CONFIG, status(), Wanted(), 7)

    new = app_of(planned.config, "shop")
    assert new["import_path"] == NEW_VERSION
    assert new["args"] == {"import_path": "shop:app", "args": {"size": 3}, "version": 7}
    assert set(planned.deployments) == {"shop#Front", "shop#Back"}, "Serve replaces all deployments of the app"
    assert [one for one in applications(planned.config) if one is not new] == [
        one for one in applications(CONFIG) if one["import_path"] != "shop:app"
    ]


def test_each_version_differs_from_those_before() -> None:
    first, second = (plan(CONFIG, status(), Wanted(), number).config for number in (1, 2))

    assert first != second


@pytest.mark.parametrize("bad", ["constructor", "health_check", "answers"])
def test_a_bad_version_says_what_is_wrong_with_it_and_with_which_deployment(bad: Bad) -> None:
    planned = plan(CONFIG, status(), Wanted(bad=bad, deployment="Back", app="shop"), 1)

    args = cast("dict[str, Json]", app_of(planned.config, "shop")["args"])
    assert (args["bad"], args["deployment"]) == (bad, "Back")


def test_a_version_of_the_users_own_is_taken_as_it_is() -> None:
    by_path = plan(CONFIG, status(), Wanted(to="shop2:app"), 1)
    by_fields = plan(CONFIG, status(), Wanted(to={"runtime_env": {"env_vars": {"VERSION": "2"}}}), 1)

    assert app_of(by_path.config, "shop") == {**app_of(CONFIG, "shop"), "import_path": "shop2:app"}
    assert app_of(by_fields.config, "shop")["runtime_env"] == {"env_vars": {"VERSION": "2"}}


def test_options_are_those_of_the_deployment_that_answers() -> None:
    planned = plan(CONFIG, status(), Wanted("options"), 1)

    assert app_of(planned.config, "shop")["deployments"] == [{"name": "Front", "max_ongoing_requests": 6}]
    assert planned.deployments == ("shop#Front",)


def test_an_app_without_a_name_is_called_default_as_by_serve() -> None:
    planned = plan(CONFIG, status(), Wanted("options", app="default", to={"max_ongoing_requests": 3}), 1)

    assert app_of(planned.config, "default")["deployments"] == [{"name": "Only", "max_ongoing_requests": 3}]


@pytest.mark.parametrize(("replicas", "to", "expected"), [(4, None, 3), (1, None, 2), (4, 9, 9)])
def test_another_number_of_replicas_has_room_on_any_cluster(replicas: int, to: Json, expected: int) -> None:
    said = status(targets={"shop#Front": replicas})

    planned = plan(CONFIG, said, Wanted("num_replicas", to=to), 1)

    assert (planned.new.replicas, planned.old.replicas) == ({"shop#Front": expected}, {"shop#Front": replicas})


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "error", "reason"),
    [
        (Wanted(app="nosuch"), NoSuchTarget, "there is no app 'nosuch'"),
        (Wanted(deployment="Nosuch"), NoSuchTarget, "there is no deployment shop#Nosuch"),
        (Wanted("options", deployment="other#X"), NoSuchTarget, "there is no app 'other'"),
        (Wanted("user_config"), SettingsError, "known to you alone"),
        (Wanted("options", deployment="Back"), SettingsError, "does not say which max_ongoing_requests"),
        (Wanted("num_replicas", app="default"), Unsupported, "Serve itself scales default#Only"),
        (Wanted("num_replicas", to=4), SettingsError, "has 4 replicas already"),
        (Wanted(to="shop:app"), SettingsError, "nothing would change"),
        (Wanted(to={"args": {"size": 3}}), SettingsError, "nothing would change"),
    ],
)
def test_an_update_that_cannot_be_made_says_why(wanted: Wanted, error: type[Exception], reason: str) -> None:
    with pytest.raises(error, match=reason):
        plan(CONFIG, status(), wanted, 1)


def test_of_several_deployments_that_may_answer_one_has_to_be_named() -> None:
    said = status(handles={})

    with pytest.raises(SettingsError, match="unknown which of them answers requests"):
        plan(CONFIG, said, Wanted("options"), 1)
    assert plan(CONFIG, said, Wanted("options", deployment="Front"), 1).deployments == ("shop#Front",)


@pytest.mark.parametrize(
    "env",
    [{"image_uri": "x"}, {"container": {"image": "x"}}, {"conda": "prod"}, {"env_vars": {"PYTHONPATH": "/srv"}}],
)
def test_a_new_version_is_not_made_where_this_package_is_not_importable(env: dict[str, Json]) -> None:
    config: dict[str, Json] = {"applications": [{"name": "shop", "import_path": "shop:app", "runtime_env": env}]}

    for wanted in (Wanted(), Wanted(bad="answers")):
        with pytest.raises(Unsupported, match="is not importable"):
            plan(config, status(), wanted, 1)
    assert plan(config, status(), Wanted(to="shop2:app"), 1), "the user's own version can be"


@pytest.mark.parametrize(
    ("says", "reason"),
    [
        ({"change": "options", "bad": "constructor"}, "makes a new version of the code by itself"),
        ({"bad": "answers", "to": "a:b"}, "makes a new version of the code by itself"),
        ({"for_": "5s"}, "for_ says how long a bad version stays"),
        ({"change": "num_replicas", "to": 0}, "num_replicas cannot become 0"),
        ({"change": "num_replicas", "to": True}, "num_replicas cannot become True"),
        ({"change": "options", "to": 3}, "3 are not options of a deployment"),
        ({"change": "options", "to": {}}, "are not options of a deployment"),
        ({"change": "options", "to": {"num_replicas": 3}}, "num_replicas is not changed as an option"),
        ({"change": "options", "to": {"autoscaling_config": {}}}, "autoscaling_config is not changed as an option"),
        ({"to": "nonsense"}, "'nonsense' does not name a new version"),
        ({"to": 7}, "7 does not name a new version"),
        ({"to": {"deployments": []}}, "does not name a new version"),
        ({"change": "colour"}, "one of code, user_config, options, num_replicas"),
    ],
)
def test_what_no_update_can_be_is_refused(says: dict[str, object], reason: str) -> None:
    with pytest.raises(SettingsError, match=reason):
        FAULT.choose(says)


# -- when it is complete -----------------------------------------------------------------------------------------------


def test_new_code_is_complete_when_serve_has_the_config_and_all_deployments_are_healthy() -> None:
    planned = plan(CONFIG, status(), Wanted(), 1)
    configs = {"shop": {**app_of(planned.config, "shop"), "name": "shop"}}

    assert planned.new.lacks(status(configs={"shop": app_of(CONFIG, "shop")}))
    updating = status(configs=configs, apps={"shop": "DEPLOYING"}, messages={"shop": "first\nlast line"})
    assert planned.new.lacks(updating) == ["the app shop is DEPLOYING (last line)"]
    half = {**status().deployments, "shop#Back": "UPDATING"}
    assert planned.new.lacks(status(configs=configs, deployments=half)) == ["shop#Back is UPDATING"]
    assert planned.new.lacks(status(configs=configs)) == []


@pytest.mark.parametrize("state", ["UPSCALING", "DOWNSCALING"])
def test_a_deployment_that_serve_scales_need_not_be_at_rest(state: str) -> None:
    """Its traffic may change its number at any time, after the update as well."""
    planned = plan(CONFIG, status(), Wanted(app="default"), 1)
    configs = {"default": app_of(planned.config, "default")}
    scaling = {**status().deployments, "default#Only": state}

    assert planned.new.lacks(status(configs=configs, deployments=scaling)) == []
    fixed = status(configs=configs, deployments=scaling, options={})
    assert planned.new.lacks(fixed) == [f"default#Only is {state}"]


def row(number: int) -> ReplicaRow:
    return ReplicaRow(f"r{number}", "default", "Only", "RUNNING", None, None, number)


@pytest.mark.parametrize(
    ("state", "wanted", "listed", "landed"),
    [
        ("HEALTHY", 2, (1, 2), False),
        ("UPSCALING", 2, (1, 2), False),
        ("UPSCALING", 2, (1, 2, 3), True),
        ("UPDATING", 2, (1, 2), True),
        ("HEALTHY", 1, (1,), False),
    ],
    ids=["scaled up", "scaling up", "one more than that", "updating", "nothing came"],
)
def test_a_replica_that_came_because_serve_scales_up_does_not_show_the_update(
    state: str, wanted: int, listed: tuple[int, ...], landed: bool
) -> None:
    """Serve imports the new version for seconds, and goes on with scaling the old one."""
    before = status(replicas=(row(1),))
    planned = plan(CONFIG, before, Wanted(app="default"), 1)
    now = status(
        configs={"default": app_of(planned.config, "default")},
        deployments={**before.deployments, "default#Only": state},
        targets={**before.targets, "default#Only": wanted},
        replicas=tuple(map(row, listed)),
    )
    rig = rig_around(cluster_with(dashboard=SimpleNamespace(serve=lambda: now)))
    fault = AppUpdated(rig, planned, (), {}, CONFIG, rig.health.shape, frozenset({"r1"}), before.targets)

    assert (fault.sign(0.0) is not None) is landed


def test_the_range_of_a_new_version_counts_once_the_app_runs_with_it() -> None:
    before = status()
    planned = plan(CONFIG, before, Wanted(to={"import_path": "shop2:app"}), 1)
    options: dict[str, dict[str, Json]] = {"shop#Front": {"autoscaling_config": {"min_replicas": 2, "max_replicas": 8}}}
    targets = {**before.targets, "shop#Front": 2, "shop#Back": 5}
    now = status(configs={"shop": app_of(planned.config, "shop")}, options=options, targets=targets)
    rig = rig_around(watcher=SimpleNamespace(report=Report(serve=replace(now, apps={"shop": "DEPLOYING"}))))
    first = replace(rig.health.shape, replicas={"shop#Front": 4, "shop#Back": 2, "default#Only": 1})
    rig.health.expect(first)
    fault = AppUpdated(rig, planned, (), {}, CONFIG, first, frozenset(), before.targets)

    assert fault.unfinished()
    assert rig.health.shape == first, "it does not run yet"
    rig.watcher.report = Report(serve=now)  # type: ignore[misc]
    assert fault.unfinished() == []
    assert rig.health.shape.replicas == {"shop#Front": 2, "shop#Back": 5, "default#Only": 1}
    assert rig.health.shape.autoscaled == {"shop#Front": (2, 8)}


def test_taking_new_code_back_is_complete_when_serve_has_the_old_config() -> None:
    planned = plan(CONFIG, status(), Wanted(), 1)

    assert planned.old.lacks(status(configs={"shop": app_of(planned.config, "shop")}))
    assert planned.old.lacks(status(configs={"shop": app_of(CONFIG, "shop")})) == []


def test_an_app_that_never_had_arguments_has_none_again() -> None:
    planned = plan(CONFIG, status(), Wanted(app="default"), 1)

    assert planned.old.lacks(status(configs={"default": {"import_path": "more:app", "args": {}}})) == []
    assert planned.old.lacks(status(configs={"default": {"import_path": "more:app"}})) == []


def test_options_may_be_said_with_defaults_that_nobody_gave() -> None:
    wanted = Wanted("options", to={"logging_config": {"log_level": "DEBUG"}, "health_check_period_s": 5})
    target = plan(CONFIG, status(), wanted, 1).new

    said: dict[str, Json] = {"logging_config": {"log_level": "DEBUG", "encoding": "TEXT"}, "health_check_period_s": 5.0}
    assert target.lacks(status(options={"shop#Front": said})) == []
    assert target.lacks(status(options={"shop#Front": {**said, "logging_config": None}})) == [
        "logging_config of shop#Front is the old one"
    ]


def test_a_number_of_replicas_is_accepted_when_serve_wants_it() -> None:
    target = plan(CONFIG, status(), Wanted("num_replicas"), 1).new

    assert target.accepted(status()) == ["Serve wants 4 replicas of shop#Front"]
    assert target.accepted(status(targets={**status().targets, "shop#Front": 3})) == []


# -- what is expected --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "to", "replaced"),
    [
        ("code", None, True),
        ("user_config", {"a": 1}, False),
        ("options", {"max_ongoing_requests": 3}, False),
        ("options", {"ray_actor_options": {"num_cpus": 1}}, True),
        ("options", {"max_ongoing_requests": 3, "max_replicas_per_node": 1}, True),
    ],
)
def test_replicas_are_replaced_or_kept_as_serve_does_it(change: Change, to: Json, replaced: bool) -> None:
    expected = FAULT.choose({"change": change, "to": to}).expectations(ClusterSpec())

    assert ("replica@victims" in expected.replaced) is replaced
    assert ("replica@victims" in expected.kept) is not replaced
    assert expected.lost_beyond_in_flight == 0


def test_of_answers_that_are_errors_only_their_end_is_expected() -> None:
    expected = FAULT.choose({"bad": "answers", "for_": "5s"}).expectations(ClusterSpec())

    assert (expected.availability, expected.lost_beyond_in_flight, expected.surviving) == (None, None, None)
    assert (expected.longest_outage, expected.traffic_back) == (65.0, 65.0)


@given(st.integers(1, 200), st.floats(0.01, 1.0))
def test_one_replica_may_always_be_gone_and_never_more_than_the_share_says(replicas: int, share: float) -> None:
    needed = least(replicas, share)

    assert 0 <= needed <= replicas - 1
    assert replicas - needed <= max(1.0, (1 - share) * replicas + 1e-6)


@pytest.mark.parametrize(("replicas", "needed"), [(1, 0), (2, 1), (6, 5), (10, 8), (20, 16)])
def test_as_many_may_be_gone_as_serve_updates_at_a_time(replicas: int, needed: int) -> None:
    assert least(replicas, 0.8) == needed
