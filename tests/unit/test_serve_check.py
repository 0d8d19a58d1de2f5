"""What Serve would refuse of a config is known before a cluster exists, with or without Ray."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from pytest_serve_chaos.cluster import yaml_lines
from pytest_serve_chaos.cluster.app_check import check_config
from pytest_serve_chaos.cluster.serve_check import Finding, RayAnswer, findings, no_ray
from pytest_serve_chaos.errors import SettingsError
from pytest_serve_chaos.model import Json

RULES: list[tuple[str, str]] = [
    ("{import_path: 'a:b', deployments: [{name: D, num_replicas: 2, autoscaling_config: {min_replicas: 1}}]}",
     "deployment D sets both num_replicas and autoscaling_config"),
    ("{import_path: 'a:b', runtime_env: {working_dir: .}}", "working_dir . is a local path"),
    ("{import_path: 'a:b', runtime_env: {working_dir: /srv/app}}", "working_dir /srv/app is a local path"),
    ("{import_path: 'a:b', runtime_env: {py_modules: [./lib, 's3://x.zip']}}", "py_modules ./lib is a local path"),
    ("{import_path: 'a:b', deployments: [{name: D, ray_actor_options: {runtime_env: {working_dir: ./x}}}]}",
     "working_dir ./x is a local path"),
    ("{name: x}", "app 1 has no import_path"),
    ("{import_path: a}", "app 1 has no import_path"),
    ("{import_path: 'a:b', route_prefix: v1}", "must begin with /"),
    ("{import_path: 'a:b', route_prefix: /v1/}", "and not end with it"),
    ("{import_path: 'a:b', runtime_env: {env_vars: {PORT: 8000}}}", "the variable PORT is not text"),
    ("{import_path: 'a:b', deployments: [{name: D, autoscaling_config: {min_replicas: 5, max_replicas: 2}}]}",
     "max_replicas (2) is less than min_replicas (5)"),
    ("{import_path: 'a:b'}], proxy_location: Disabled, x-rest: [", "proxy_location is Disabled"),
    ("{import_path: 'a:b'}], proxy_location: NoServer, x-rest: [", "proxy_location is 'NoServer'"),
    ("{import_path: 'a:b'}, {import_path: 'a:b', route_prefix: /x}", "two apps have the name default"),
    ("{import_path: 'a:b'}, {import_path: 'a:b', name: x}", "two apps have the route_prefix /"),
]  # fmt: skip


@pytest.mark.parametrize(("apps", "said"), RULES, ids=[f"{n}-{said}" for n, (_, said) in enumerate(RULES)])
def test_the_rules_that_matter_hold_without_ray(apps: str, said: str) -> None:
    (found,) = findings(yaml.safe_load(f"{{applications: [{apps}]}}"), None)
    assert said in found.what
    assert found.fix


@pytest.mark.parametrize(
    "text",
    [
        "applications: [{import_path: 'speech-app:app'}]",
        "applications: [{import_path: a.b}]",
        "{applications: [{import_path: 'a:b', route_prefix: null}, {import_path: 'a:b', name: x}], x-common: {a: 1}}",
        "applications: [{import_path: 'a:b', deployments: [{name: D, num_replicas: auto}]}]",
        "applications: [{import_path: 'a:b', runtime_env: {working_dir: 'local:///srv/app'}}]",
        "{applications: [{import_path: 'a:b'}], tracing_config: {}, logging_config: {}, grpc_options: {}}",
    ],
)
def test_what_serve_takes_is_fine(text: str) -> None:
    assert findings(yaml.safe_load(text), None) == []


def test_who_has_the_code_somewhere_is_told_how_the_directory_can_stay_out() -> None:
    (found,) = findings(yaml.safe_load("applications: [{import_path: 'a:b', runtime_env: {working_dir: ./src}}]"), None)
    assert "start pytest in the directory that has the app's module" in found.fix


def test_proxies_that_speak_https_are_refused() -> None:
    config: dict[str, Json] = {
        "applications": [{"import_path": "a:b"}],
        "http_options": {"ssl_certfile": "/c", "ssl_keyfile": "/k"},
    }
    (found,) = findings(config, None)
    assert "the plugin sends HTTP" in found.what


def test_an_unknown_field_comes_with_the_one_that_was_meant() -> None:
    (found,) = findings({"applications": [{"import_path": "a:b"}], "http_option": {}}, None)
    assert "Serve does not know the field http_option" in found.what
    assert found.fix == "write http_options"


def test_serves_words_come_first_and_a_rule_adds_the_way_out() -> None:
    config: dict[str, Json] = {"applications": [{"import_path": "a:b", "runtime_env": {"working_dir": "."}}]}
    said = Finding(("applications", 0, "runtime_env"), "support only remote URIs", "change it as Serve says")
    (found,) = findings(config, RayAnswer("2.60.0", (said,)))
    assert found.what == "support only remote URIs"
    assert "give its URI" in found.fix


TEXT = """\
http_options:
  port: 8000
applications:
  - name: flow
    import_path: flow.api:app
    deployments:
      - name: Flow
        num_replicas: 2
        autoscaling_config: {min_replicas: 1, max_replicas: 4}
"""


def test_an_error_has_the_line_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "flow.yaml"
    file.write_text(TEXT)
    with pytest.raises(SettingsError) as caught:
        check_config(yaml.safe_load(TEXT), file, print, ask=no_ray)
    assert caught.value.checked == ("line 8, applications[flow].deployments[Flow].num_replicas",)


def test_another_ray_than_the_clusters_refuses_nothing_and_is_quoted(tmp_path: Path) -> None:
    file = tmp_path / "flow.yaml"
    file.write_text("applications: [{import_path: 'a:b'}]")
    said: list[str] = []
    answer = RayAnswer("2.60.0", (Finding(("new_options",), "Serve does not know the field", ""),))
    config: dict[str, Json] = {"applications": [{"import_path": "a:b"}], "x-new": {}}
    check_config(config, file, said.append, ray_version="2.70.0", ask=lambda _: answer)
    assert re.search("Ray 2.60.0 of this machine says of new_options.*the cluster runs Ray 2.70.0", said[0])
    with pytest.raises(SettingsError, match="does not know"):
        check_config(config, file, said.append, ray_version="2.60.1", ask=lambda _: answer)


def test_lines_are_those_of_keys_and_items_at_any_depth() -> None:
    lines = yaml_lines.document(TEXT)
    assert lines.line(("http_options", "port")) == 2
    assert lines.line(("applications", 0)) == 4
    assert lines.line(("applications", 0, "deployments", 0, "autoscaling_config", "max_replicas")) == 9
    assert lines.line(("applications", 0, "deployments", 7, "name")) == 6, "that of what holds it"
    assert lines.shifted(10).line(("http_options",)) == 11
    assert yaml_lines.document("a: [").line(("a",)) is None
    assert yaml_lines.document("a: &x [*x]").line(("a", 0)) is None, "an alias of what it is in is refused"
