from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pytest_serve_chaos.cluster.base import ClusterSpec
from pytest_serve_chaos.errors import SettingsError
from pytest_serve_chaos.faults.catalogue import BUILT_IN
from pytest_serve_chaos.faults.spec import FaultChoice
from pytest_serve_chaos.markers import cluster_request, fault_requests
from pytest_serve_chaos.markers import fault_request as fault_request_of
from pytest_serve_chaos.settings import Settings

OTHERS = ("serve_cluster", "serve_chaos")
FAULTS = tuple(fault.name for fault in BUILT_IN)


def mark(name: str, /, *args: object, **kwargs: Any) -> pytest.Mark:
    return pytest.Mark(name, args, kwargs, _ispytest=True)


def fault_request(markers: list[pytest.Mark]) -> FaultChoice | None:
    return fault_request_of(markers, BUILT_IN)


# -- faults ------------------------------------------------------------------------------------------------------------


def test_a_marker_alone_asks_for_the_hardest_form_of_its_fault() -> None:
    hardest = {name: fault_request([mark(name)]) for name in FAULTS}

    how = {name: request.how if request else None for name, request in hardest.items()}
    assert how == dict.fromkeys(FAULTS, "kill") | {
        "health_check_failure": "fail_health_check",
        "app_update": "update",
        "rayservice_upgrade": "upgrade",
    }


def test_a_test_without_a_fault_marker_asks_for_none() -> None:
    assert fault_request([mark("slow"), mark("serve_cluster", workers=3)]) is None


def test_a_freeze_takes_a_duration() -> None:
    request = fault_request([mark("head_failure", how="freeze", for_="20s")])

    assert request is not None
    assert (request.kind, dict(request.options)) == ("head_failure", {"how": "freeze", "for_": 20.0})


def test_what_is_held_stays_a_bool() -> None:
    request = fault_request([mark("worker_failure", how="stop", hold=True, which="most_replicas")])

    assert request is not None
    assert dict(request.options) == {"how": "stop", "hold": True, "which": "most_replicas"}


def test_the_closest_marker_of_a_fault_wins() -> None:
    request = fault_request([mark("worker_failure", how="stop"), mark("worker_failure", how="kill", which="worker-1")])

    assert request is not None
    assert dict(request.options) == {"how": "stop"}


def test_an_experiment_refuses_two_faults_that_a_test_by_hand_may_have() -> None:
    both = [mark("head_failure"), mark("replica_failure", deployment="SleepyPid", on="workers")]

    assert [request.kind for request in fault_requests(both, BUILT_IN)] == ["head_failure", "replica_failure"]
    with pytest.raises(SettingsError, match="head_failure and replica_failure"):
        fault_request(both)


@pytest.mark.parametrize(
    ("marker", "message"),
    [
        pytest.param(mark("head_failure", "stop"), "keyword arguments only, and was given 'stop'", id="positional"),
        pytest.param(mark("head_failure", hwo="stop"), "no keyword 'hwo'", id="typo"),
        pytest.param(mark("gcs_failure", on="head"), "the keywords of gcs_failure are how, for_", id="of-another"),
        pytest.param(mark("head_failure", how="drain"), "must be one of kill, stop, freeze", id="how-of-another"),
        pytest.param(mark("replica_failure", how="stop"), "must be one of kill, freeze", id="how"),
        pytest.param(mark("head_failure", how="freeze", for_="soon"), "must be a duration", id="duration"),
        pytest.param(mark("head_failure", how="freeze", for_=True), "must be a duration", id="not-a-duration"),
        pytest.param(mark("gcs_failure", for_="20s"), "goes with how='freeze' only", id="freeze-only"),
        pytest.param(mark("head_failure", for_="20s"), "goes with hold=True where how is 'kill'", id="not-held"),
        pytest.param(mark("worker_failure", how="stop", hold=False, for_=5), "goes with hold=True", id="let-go"),
        pytest.param(mark("head_failure", hold="yes"), "must be True or False", id="not-a-bool"),
        pytest.param(mark("redis_failure", how="freeze", hold=True), "how='kill' or 'stop' only", id="not-frozen"),
        pytest.param(mark("controller_failure", replacement="any"), "one of same_actor, new_actor", id="replacement"),
        pytest.param(
            mark("controller_failure", how="freeze", replacement="new_actor"),
            "goes with how='kill' only",
            id="kill-only",
        ),
        pytest.param(mark("health_check_failure", mode="sleep"), "must be one of raise, hang", id="mode"),
        pytest.param(mark("proxy_failure", on=None), "or the name of a node", id="none"),
    ],
)
def test_a_fault_marker_is_refused_with_what_is_valid(marker: pytest.Mark, message: str) -> None:
    with pytest.raises(SettingsError) as refusal:
        fault_request([marker])

    assert message in str(refusal.value)
    assert marker.name in str(refusal.value)


# -- clusters ----------------------------------------------------------------------------------------------------------


def test_without_a_marker_the_settings_say_which_cluster() -> None:
    assert cluster_request([], Settings()) == ClusterSpec()
    assert cluster_request([], Settings(workers=4, gcs="none", profile="guide")) == ClusterSpec(
        workers=4, gcs="none", profile="guide"
    )


def test_each_keyword_comes_from_the_closest_marker_that_has_it() -> None:
    markers = [mark("serve_cluster", gcs="none"), mark("serve_cluster", gcs="redis", workers=3)]

    assert cluster_request(markers, Settings(profile="guide")) == ClusterSpec(gcs="none", workers=3, profile="guide")


def test_the_order_in_which_variables_and_arguments_are_written_makes_no_other_cluster() -> None:
    one = mark("serve_cluster", env={"A": "1", "B": "2"}, app_args={"size": 3, "name": "x"})
    other = mark("serve_cluster", env={"B": "2", "A": "1"}, app_args={"name": "x", "size": 3})

    assert cluster_request([one], Settings()) == cluster_request([other], Settings())
    assert cluster_request([one], Settings()).env == (("A", "1"), ("B", "2"))


@pytest.mark.parametrize(("value", "ingress"), [("1", "haproxy"), ("0", "python")])
def test_ray_s_own_variable_chooses_haproxy_too(value: str, ingress: str) -> None:
    wanted = cluster_request([mark("serve_cluster", env={"RAY_SERVE_ENABLE_HA_PROXY": value})], Settings())
    assert wanted.ingress == ingress


def test_a_test_can_want_haproxy_alone() -> None:
    assert cluster_request([mark("serve_cluster", ingress="haproxy")], Settings()).ingress == "haproxy"
    assert cluster_request([], Settings(ingress="haproxy")).ingress == "haproxy"


def test_a_config_file_is_looked_for_alongside_the_test(tmp_path: Path) -> None:
    (tmp_path / "serve.yaml").write_text("applications: []\n")

    spec = cluster_request([mark("serve_cluster", app="serve.yaml")], Settings(), directory=tmp_path)

    assert spec.app == str(tmp_path / "serve.yaml")


@pytest.mark.parametrize(
    ("marker", "message"),
    [
        pytest.param(mark("serve_cluster", "none"), "keyword arguments only", id="positional"),
        pytest.param(mark("serve_cluster", worker=2), "no keyword 'worker'", id="typo"),
        pytest.param(mark("serve_cluster", workers=0), "workers=0 in @pytest.mark.serve_cluster", id="no-workers"),
        pytest.param(mark("serve_cluster", workers=1.5), "must be a whole number", id="half-a-worker"),
        pytest.param(mark("serve_cluster", gcs="etcd"), "must be one of redis, rocksdb, none", id="gcs"),
        pytest.param(mark("serve_cluster", app="ranker"), "must be module:app", id="app"),
        pytest.param(mark("serve_cluster", env={"A": 1}), "must be a dict of texts", id="env"),
        pytest.param(mark("serve_cluster", app_args={"a": {1}}), "names and JSON values", id="not-json"),
    ],
)
def test_a_cluster_marker_is_refused_with_what_is_valid(marker: pytest.Mark, message: str) -> None:
    with pytest.raises(SettingsError) as refusal:
        cluster_request([marker], Settings())

    assert message in str(refusal.value)


# -- inside of pytest --------------------------------------------------------------------------------------------------

CONFTEST = """
from pytest_serve_chaos import names

def pytest_configure(config):
    names.add_markers(config)
"""


@pytest.fixture
def _alone(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makeconftest(CONFTEST)


@pytest.mark.usefixtures("_alone")
def test_pytest_knows_the_markers_and_who_provides_them(pytester: pytest.Pytester) -> None:
    shown = pytester.runpytest_inprocess("--markers").stdout.str()

    ours = [line for line in shown.splitlines() if line.endswith("Provided by pytest-serve-chaos.")]
    assert [line.partition("(")[0] for line in ours] == [f"@pytest.mark.{name}" for name in (*FAULTS, *OTHERS)]


@pytest.mark.usefixtures("_alone")
def test_a_marker_of_somebody_elses_with_the_same_name_is_left_alone(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.worker_failure("our own meaning", severity=3)
        def test_theirs():
            pass
        """
    )

    pytester.runpytest_inprocess("--strict-markers").assert_outcomes(passed=1)


# -- what a marker names -----------------------------------------------------------------------------------------------

APPS = {"ranker": ["Ranker", "Front"], "vision": ["Ranker"]}


@pytest.mark.parametrize("name", ["Ranker", "Front", "ranker#Front", "vision#Ranker"])
def test_a_deployment_that_the_config_has_is_taken(name: str) -> None:
    BUILT_IN["replica_failure"].choose({"deployment": name}).check_names(APPS)


@pytest.mark.parametrize(
    ("name", "fix"),
    [
        ("Rankr", "write deployment='Ranker'"),
        ("vision#Rankr", "write deployment='vision#Ranker'"),
        ("vision#Front", "name one of these"),
    ],
)
def test_a_deployment_that_the_config_has_not_is_refused_with_the_one_that_was_meant(name: str, fix: str) -> None:
    with pytest.raises(SettingsError, match="has no such deployment") as refused:
        BUILT_IN["replica_failure"].choose({"deployment": name}).check_names(APPS)
    assert refused.value.fix == (fix,)
    assert refused.value.checked == ("what it has: ranker#Ranker, ranker#Front, vision#Ranker",)


def test_an_app_that_the_config_has_not_is_refused() -> None:
    with pytest.raises(
        SettingsError, match=r"app='ranke' in @pytest\.mark\.app_update: the Serve config has no such app"
    ):
        BUILT_IN["app_update"].choose({"app": "ranke"}).check_names(APPS)
    BUILT_IN["app_update"].choose({}).check_names(APPS)
