"""A RayService file: what is read from it, and what is refused before anything is made."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_serve_chaos.cluster.base import ClusterSpec
from pytest_serve_chaos.cluster.kubernetes.client.records import listed
from pytest_serve_chaos.cluster.kubernetes.install.rayservice_file import parse_own_file, read_own_file
from pytest_serve_chaos.cluster.serve_config import applications
from pytest_serve_chaos.errors import SettingsError

FILE = Path(__file__).parents[1] / "kind" / "data" / "k8s_config.yaml"
Change = Callable[[dict[str, Any]], object]
"""Changes the RayService of the file in place."""


def changed(change: Change, *others: dict[str, Any]) -> str:
    documents = list(yaml.safe_load_all(FILE.read_text()))
    change(documents[-1])
    return yaml.safe_dump_all([*documents, *others])


def head(service: dict[str, Any]) -> Any:
    return service["spec"]["rayClusterConfig"]["headGroupSpec"]


def ray(service: dict[str, Any]) -> Any:
    return head(service)["template"]["spec"]["containers"][0]


def group(service: dict[str, Any]) -> Any:
    return service["spec"]["rayClusterConfig"]["workerGroupSpecs"][0]


def env(service: dict[str, Any]) -> list[dict[str, Any]]:
    variables: list[dict[str, Any]] = ray(service)["env"]
    return variables


def by_options(service: dict[str, Any]) -> None:
    """Fault tolerance in the newer style."""
    del service["metadata"]["annotations"]
    del head(service)["rayStartParams"]["redis-password"]
    env(service)[:] = [v for v in env(service) if v["name"] != "RAY_REDIS_ADDRESS"]
    service["spec"]["rayClusterConfig"]["gcsFaultToleranceOptions"] = {"redisAddress": "store:6379"}


def newer(change: Change) -> Change:
    """The change of a RayService in the newer style."""

    def both(service: dict[str, Any]) -> None:
        by_options(service)
        change(service)

    return both


def test_the_file_of_the_guide_describes_a_cluster() -> None:
    own = read_own_file(FILE)
    assert own.spec == ClusterSpec(gcs="redis", workers=2, profile="guide", app="sleepy_pid:app")
    assert [item["kind"] for item in own.others] == ["ConfigMap", "Service", "Deployment"]
    assert own.found.redis == "store:6379"
    assert own.notes == ()


def test_both_styles_of_fault_tolerance_and_none_are_understood() -> None:
    assert parse_own_file(changed(by_options), FILE).spec.gcs == "redis"

    def without(service: dict[str, Any]) -> None:
        by_options(service)
        del service["spec"]["rayClusterConfig"]["gcsFaultToleranceOptions"]

    assert parse_own_file(changed(without), FILE).spec.gcs == "none"


def test_another_app_takes_the_place_of_the_first() -> None:
    own = read_own_file(FILE, app="ranker:app")
    assert own.spec.app == "ranker:app"
    (app,) = applications(own.found.serve_config)
    assert listed(app["deployments"])[0]["num_replicas"] == 6
    assert own.notes == ("the first app is ranker:app, and not sleepy_pid:app, as the options say",)


def test_a_list_of_objects_and_empty_documents_are_taken() -> None:
    items = list(yaml.safe_load_all(FILE.read_text()))
    listed = yaml.safe_dump({"apiVersion": "v1", "kind": "List", "items": items})
    assert parse_own_file(f"---\n---\n{listed}---\n", FILE) == read_own_file(FILE)


def test_what_an_api_server_wrote_is_left_out() -> None:
    def from_a_cluster(service: dict[str, Any]) -> None:
        service["status"] = {"activeServiceStatus": {"rayClusterName": "gone", "rayClusterStatus": {}}}
        service["metadata"] |= {"uid": "1", "resourceVersion": "2", "creationTimestamp": "2026-01-01T00:00:00Z"}
        service["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"] = "{}"

    own = parse_own_file(changed(from_a_cluster), FILE)
    assert own.ray_service == read_own_file(FILE).ray_service
    assert own.found.ray_cluster == ""
    assert len(own.notes) == 1


def test_dates_and_numbers_are_what_kubernetes_takes_them_for() -> None:
    settings = "{apiVersion: v1, kind: ConfigMap, metadata: {name: x}, data: {day: 2026-01-02}, mode: 0o644}"
    own = parse_own_file(f"{FILE.read_text()}---\n{settings}\n", FILE)
    assert own.others[-1]["data"] == {"day": "2026-01-02"}
    assert own.others[-1]["mode"] == 0o644


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "is not YAML"),
        ("just text", "document 1 is not a Kubernetes object"),
        ("{apiVersion: v1, kind: Service}", "document 1 is not a Kubernetes object"),
        ("{apiVersion: v1, kind: List, items: [7]}", "item 1 of document 1 is not a Kubernetes object"),
        ("", "has 0 RayServices; one is needed"),
        (
            "{apiVersion: ray.io/v1, kind: RayService, metadata: {name: a}}\n---\n"
            "{apiVersion: ray.io/v1, kind: RayService, metadata: {name: b}}",
            r"has 2 RayServices \(a, b\)",
        ),
    ],
)  # fmt: skip
def test_a_file_without_one_usable_rayservice_is_refused(content: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said) as caught:
        parse_own_file(content, FILE)
    assert caught.value.fix
    assert caught.value.what.startswith(str(FILE))


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "none.yaml"
    with pytest.raises(SettingsError, match=f"^the RayService file {file} cannot be read"):
        read_own_file(file)


def parameter(name: str, value: object = "x") -> Change:
    """A parameter more for `ray start` on the head."""
    return lambda service: head(service)["rayStartParams"].update({name: value})


def variable(name: str, value: object = "x") -> Change:
    """A variable more for the head's container."""
    return lambda service: env(service).append({"name": name, "value": value})


REFUSED: dict[str, Change] = {
    "its name must be a lower-case DNS label": lambda s: s["metadata"].update(name="Ranker"),
    "at most 47 characters": lambda s: s["metadata"].update(name="x" * 48),
    "headGroupSpec has no container": lambda s: head(s)["template"]["spec"].pop("containers"),
    "small-group has no container": lambda s: group(s).pop("template"),
    "workerGroupSpecs is not a list": lambda s: s["spec"]["rayClusterConfig"].update(workerGroupSpecs=group(s)),
    "serveConfigV2 is not text": lambda s: s["spec"].update(serveConfigV2={"applications": []}),
    "two groups of workers are called small-group": lambda s: s["spec"]["rayClusterConfig"].update(
        workerGroupSpecs=[group(s), copy.deepcopy(group(s))]
    ),
    "minReplicas 3 and maxReplicas 2": lambda s: group(s).update(minReplicas=3),
    "exclude each other": lambda s: s["spec"]["rayClusterConfig"].update(
        gcsFaultToleranceOptions={"redisAddress": "store:6379"}
    ),
    "RAY_REDIS_ADDRESS is set, and GCS fault tolerance is not on": lambda s: s["metadata"].pop("annotations"),
    "no Redis is named": lambda s: env(s).pop(),
    "password must not be in rayStartParams": newer(parameter("redis-password")),
    "password must not be in .* REDIS_PASSWORD": newer(variable("REDIS_PASSWORD")),
    "address must not be in RAY_REDIS_ADDRESS": newer(variable("RAY_REDIS_ADDRESS")),
    "must not be in the annotation ray.io/external-storage-namespace": newer(
        lambda s: s["metadata"].update(annotations={"ray.io/external-storage-namespace": "x"})
    ),
    "Redis' user is named outside of its options": parameter("redis-username"),
    "rayStartParams.num-cpus is not text": parameter("num-cpus", 2),
    "the variable A is not text": variable("A", 1),
    "upgradeStrategy Blue does not exist": lambda s: s["spec"].update(upgradeStrategy={"type": "Blue"}),
    "needs the Gateway API": lambda s: s["spec"].update(upgradeStrategy={"type": "NewClusterWithIncrementalUpgrade"}),
    "it is suspended": lambda s: s["spec"].update(suspend=True),
    "headService must have no name": lambda s: head(s).update(headService={"metadata": {"name": "mine"}}),
    "names ports, and none is `serve`": lambda s: ray(s).update(ports=[{"containerPort": 6379, "name": "gcs"}]),
    "Serve's port is 9000": lambda s: ray(s)["ports"][-1].update(containerPort=9000),
}  # fmt: skip
"""What is said of a change of the file."""


@pytest.mark.parametrize("said", REFUSED)
def test_what_kuberay_or_kind_would_refuse_is_said_before_anything_is_made(said: str) -> None:
    with pytest.raises(SettingsError, match=said) as caught:
        parse_own_file(changed(REFUSED[said]), FILE)
    assert caught.value.fix, "and how to fix it"


def test_all_that_is_wrong_is_said_at_once() -> None:
    def change(service: dict[str, Any]) -> None:
        head(service)["rayStartParams"]["num-cpus"] = 2
        service["spec"]["suspend"] = True

    with pytest.raises(SettingsError) as caught:
        parse_own_file(changed(change), FILE)
    assert "2 of its parts cannot be used" in caught.value.what
    one, other = caught.value.checked
    assert "headGroupSpec.rayStartParams.num-cpus: headGroupSpec: rayStartParams.num-cpus is not text. To fix" in one
    assert "it is suspended. To fix this: remove suspend" in other
    assert "--serve-chaos-rayservice-patch" in caught.value.fix[-1]


@pytest.mark.parametrize(
    "content",
    [
        "{apiVersion: v1, kind: Secret, metadata: {name: theirs}, stringData: {password: 20417}}",
        "{apiVersion: v1, kind: Secret, metadata: {name: theirs}, data: {password: 20417}}",
        "password: [20417",
    ],
    ids=["string", "data", "no-yaml"],
)
def test_what_is_wrong_with_a_secret_is_said_without_what_it_holds(content: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse_own_file(f"{FILE.read_text()}\n---\n{content}", FILE)
    assert "20417" not in str(caught.value)
    assert "its password is not text" in caught.value.what or "is not YAML" in caught.value.what


@pytest.mark.parametrize("import_path", ["ranker:app", "ranker.app", "my-repository.serve.ranker:app", "a:b.c"])
def test_whatever_serve_can_import_is_an_app(import_path: str) -> None:
    config = yaml.safe_dump({"applications": [{"import_path": import_path}]})
    assert parse_own_file(changed(lambda s: s["spec"].update(serveConfigV2=config)), FILE).spec.app == import_path


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ("applications: [", "is not YAML"),
        ("applications: []", "no app to test"),
        ("applications: [7]", "not a list of apps"),
        ("applications: [{name: a}]", "app 1 has no import_path"),
        ("applications: [{import_path: ranker}]", "app 1 has no import_path"),
        (
            "applications: [{name: a, import_path: 'a:b', route_prefix: /a}, {name: a, import_path: 'a:b'}]",
            "the name a",
        ),
        ("applications: [{name: a, import_path: 'a:b'}, {name: b, import_path: 'a:b'}]", "the route_prefix /"),
        ("{http_options: {port: 9000}, applications: [{import_path: a.b}]}", "http_options.port"),
        ("{http_options: {host: 127.0.0.1}, applications: [{import_path: a.b}]}", "http_options.host"),
    ],
)
def test_a_serve_config_that_kuberay_reports_only_in_its_log_is_refused(config: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        parse_own_file(changed(lambda s: s["spec"].update(serveConfigV2=config)), FILE)


@settings(deadline=None)
@given(st.recursive(
    st.none() | st.booleans() | st.integers(0, 9) | st.sampled_from(["", "x", "RayService", "ray.io/v1"]),
    lambda inner: st.lists(inner, max_size=2)
    | st.dictionaries(st.sampled_from(["kind", "apiVersion", "metadata", "name", "spec", "items"]), inner, max_size=5),
    max_leaves=8,
))  # fmt: skip
def test_whatever_the_documents_are_they_are_read_or_refused_in_words(document: Any) -> None:
    with pytest.raises(SettingsError):
        parse_own_file(yaml.safe_dump(document), FILE)


@settings(deadline=None, max_examples=50)
@given(st.data())
def test_a_part_of_the_rayservice_that_is_lost_is_no_reason_to_break(data: st.DataObject) -> None:
    """Whatever is cut out of the file, it is read, or refused in words: never an error of Python's."""
    *others, service = yaml.safe_load_all(FILE.read_text())
    at: Any = service
    while True:
        keys = list(range(len(at))) if isinstance(at, list) else list(at)
        key = data.draw(st.sampled_from(keys))
        below = at[key]
        if not isinstance(below, dict | list) or not below or data.draw(st.booleans()):
            at[key] = data.draw(st.sampled_from([None, {}, [], "x", 7]))
            break
        at = below
    content = yaml.safe_dump_all([*others, service])
    with contextlib.suppress(SettingsError):
        assert parse_own_file(content, FILE).spec.app
