"""A RayService of our own is looked at as one of the user's, before anything is made."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from pytest_serve_chaos.cluster.base import ClusterSpec, Gcs
from pytest_serve_chaos.cluster.kubernetes.client.records import inner, mapped, text
from pytest_serve_chaos.cluster.kubernetes.install.workload import Workload, our_workload
from pytest_serve_chaos.errors import SettingsError


def of_config(directory: Path, config: str) -> Workload:
    path = directory / "serve.yaml"
    path.write_text(config)
    return our_workload(ClusterSpec(app=str(path)), "ray:2.60.0", "redis:7.0", {})


def made(**env: str) -> Workload:
    return our_workload(ClusterSpec(env=tuple(env.items())), "ray:2.60.0", "redis:7.0", {})


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ("{}", "it has no applications"),
        ("applications: {a: b}", "applications is not a list"),
        ("applications: [ranker]", "app 1 is 'ranker', and no mapping"),
        ("{http_options: [8000], applications: [{import_path: a.b}]}", "http_options is not a mapping"),
        ("applications: [{name: a}]", "app 1 has no import_path"),
        ("applications: [{name: a, import_path: 'a:b'}, {name: b, import_path: 'a:b'}]", "the route_prefix /"),
    ],
)
def test_a_serve_config_that_cannot_be_deployed_is_refused_with_its_file(
    config: str, said: str, tmp_path: Path
) -> None:
    with pytest.raises(SettingsError, match=said) as caught:
        of_config(tmp_path, config)
    assert str(tmp_path / "serve.yaml") in caught.value.what
    assert caught.value.fix


def test_proxies_listen_where_our_services_look_for_them_whatever_the_config_says(tmp_path: Path) -> None:
    http = "http_options: {host: 127.0.0.1, port: 9000, request_timeout_s: 5}"
    work = of_config(tmp_path, f"{http}\napplications: [{{import_path: a.b}}]")
    ours = {"host": "0.0.0.0", "port": 8000, "request_timeout_s": 5}
    assert work.serve_config["http_options"] == ours
    installed = yaml.safe_load(text(mapped(work.ray_service["spec"]), "serveConfigV2"))
    assert installed["http_options"] == ours
    assert "host 127.0.0.1 and port 9000 of its http_options: replaced" in work.told[0]


@pytest.mark.parametrize("http", ["", "http_options: {host: 0.0.0.0, port: 8000}\n", "http_options: {}\n"])
def test_nothing_is_said_of_a_config_whose_proxies_are_there_already(http: str, tmp_path: Path) -> None:
    assert not [
        line for line in of_config(tmp_path, f"{http}applications: [{{import_path: a.b}}]").told if "http" in line
    ]


def test_an_app_whose_code_is_not_here_is_said_to_be_in_the_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here.py").write_text("app = None\n")
    ours = "pytest_serve_chaos.apps.sleepy_pid:app"
    apps = ", ".join(
        f"{{name: a{n}, import_path: {path}, route_prefix: /{n}}}"
        for n, path in enumerate(("here:app", ours, "away:app"))
    )

    told = of_config(tmp_path, f"applications: [{apps}]").told

    assert [line for line in told if "image" in line] == ["away:app is not found here, so the image must have it"]


@pytest.mark.parametrize("gcs", ["redis", "none"])
@pytest.mark.parametrize("variable", ["RAY_REDIS_ADDRESS", "REDIS_USERNAME"])
def test_a_variable_that_kuberay_refuses_minutes_later_is_refused_at_once(variable: str, gcs: Gcs) -> None:
    spec = ClusterSpec(gcs=gcs, env=((variable, "elsewhere"),))
    with pytest.raises(SettingsError, match=r"serve_cluster\(env=...\): the RayService serve-chaos") as caught:
        our_workload(spec, "ray:2.60.0", "redis:7.0", {})
    assert caught.value.fix[0] == "leave the variable out of the marker's env"


def test_other_variables_reach_the_pods() -> None:
    head = inner(made(RANKER="small").ray_service, "spec", "rayClusterConfig", "headGroupSpec", "template", "spec")
    assert {"name": "RANKER", "value": "small"} in head["containers"][0]["env"]  # type: ignore[index, call-overload, operator]


@pytest.mark.parametrize(
    ("image", "lines"), [("ranker:latest", 1), ("ranker", 1), ("ranker@sha256:1f", 1), ("ray:2.60.0-gpu", 0)]
)
def test_an_image_that_does_not_say_which_ray_it_is_is_said(image: str, lines: int) -> None:
    told = our_workload(ClusterSpec(), image, "redis:7.0", {}).told
    assert len(told) == lines
    assert all(f"the tag of {image} does not say which Ray it is" in line and "to fix this" in line for line in told)
