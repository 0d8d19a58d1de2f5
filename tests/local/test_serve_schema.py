"""What the Serve of this machine says of configs; no cluster is started."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from pytest_serve_chaos.cluster.app_check import check_app
from pytest_serve_chaos.cluster.base import ClusterSpec
from pytest_serve_chaos.cluster.serve_check import RayAnswer, ask_ray
from pytest_serve_chaos.errors import SettingsError


def asked(text: str) -> RayAnswer:
    answer = ask_ray(yaml.safe_load(text))
    assert answer is not None, "Ray is installed here"
    return answer


@pytest.mark.parametrize(
    ("text", "path", "said"),
    [
        ("applications: [{import_path: 'a:b', runtime_env: {working_dir: .}}]", ("applications", 0, "runtime_env"),
         "only remote URIs in working_dir"),
        ("applications: [{import_path: 'a:b', deployments: [{name: D, num_replicas: 2, autoscaling_config: {}}]}]",
         ("applications", 0, "deployments", 0), "num_replicas is not allowed when autoscaling_config"),
        ("{applications: [{import_path: 'a:b'}], proxy_location: Everywhere}", ("proxy_location",), ""),
        ("{applications: [{import_path: 'a:b'}], logging_config: {encoding: XML}}", ("logging_config", "encoding"),
         "XML"),
        ("applications: [{import_path: 'a:b', deployments: [{name: D, max_ongoing_requests: many}]}]",
         ("applications", 0, "deployments", 0, "max_ongoing_requests"), "integer"),
        ("applications: [{import_path: 'a:b', deployments: [{name: D, num_replicas: 0}]}]",
         ("applications", 0, "deployments", 0, "num_replicas"), "greater than 0"),
        # What the schema takes, and Serve refuses when it deploys the app:
        ("applications: [{import_path: 'a:b', route_prefix: /x/}]", ("applications", 0, "route_prefix"), "trailing"),
        ("applications: [{import_path: 'a:b', runtime_env: {env_vars: {PORT: 8000}}}]",
         ("applications", 0, "runtime_env"), "must be of type Dict[str, str]"),
        ("applications: [{import_path: 'a:b', runtime_env: {pip: [x], uv: [y]}}]",
         ("applications", 0, "runtime_env"), "cannot be specified at the same time"),
        ("applications: [{import_path: 'a:b', deployments: [{name: D, autoscaling_config: {min_replicas: 5,"
         " max_replicas: 2}}]}]", ("applications", 0, "deployments", 0, "autoscaling_config"), "max_replicas (2)"),
        ("applications: [{import_path: 'a:b', deployments: [{name: D, num_replicas: auto, autoscaling_config:"
         " {min_replicas: 500}}]}]", ("applications", 0, "deployments", 0, "autoscaling_config"), "min_replicas (500)"),
        ("applications: [{import_path: 'a:b', deployments: [{name: D, ray_actor_options: {num_cpu: 1}}]}]",
         ("applications", 0, "deployments", 0, "ray_actor_options"), "'num_cpu' in ray_actor_options is not allowed"),
        ("applications: [{import_path: 'a:b', deployments: [{name: D, ray_actor_options: {resources: {CPU: 1}}}]}]",
         ("applications", 0, "deployments", 0, "ray_actor_options"), "num_cpus"),
        ("applications: [{import_path: 'a:b', deployments: [{name: D, placement_group_bundles: [{CPU: 0.1}],"
         " placement_group_strategy: SPREADY}]}]", ("applications", 0, "deployments", 0), "SPREADY"),
        ("applications: [{import_path: 'a:b', deployments: [{name: D, placement_group_bundles: [{CPU: 0.1}],"
         " ray_actor_options: {num_cpus: 1}}]}]", ("applications", 0, "deployments", 0), "subset of the first bundle"),
    ],
)  # fmt: skip
def test_serve_says_where_and_why_it_refuses_a_config(text: str, path: tuple[str | int, ...], said: str) -> None:
    (found,) = asked(text).findings
    assert found.path[: len(path)] == path
    assert said in found.what


@pytest.mark.parametrize(
    "deployment",
    [
        "{name: D, placement_group_bundles: [{CPU: 0.1}]}",
        "{name: D, placement_group_strategy: SPREAD}",
        "{name: D, num_replicas: auto}",
        "{name: D, num_replicas: auto, autoscaling_config: {max_replicas: 3}}",
        "{name: D, autoscaling_config: {max_replicas: 3, policy: {policy_function: 'not.here:f'}}}",
        "{name: D, max_replicas_per_node: 1, num_replicas: 2, ray_actor_options: {runtime_env: {pip: /app/needs.txt}}}",
    ],
)
def test_what_may_depend_on_the_code_or_the_image_is_no_error(deployment: str) -> None:
    assert asked(f"applications: [{{import_path: 'a:b', deployments: [{deployment}]}}]").findings == ()


APP = """from ray import serve


@serve.deployment
class Front:
    def __init__(self, engine): ...


@serve.deployment(name="Llama")
class Engine: ...


app = Front.bind(Engine.bind())
"""


@pytest.mark.parametrize(
    ("app", "said"),
    [
        ("import_path: 'flow:app', deployments: [{name: Frnt, num_replicas: 2}]", "write Front"),
        ("import_path: 'flow:app', deployments: [{name: Engine, num_replicas: 2}]", "has no deployment Engine"),
        ("import_path: 'flow:app', args: {model: x}", "it has args, and it is bound already"),
        ("import_path: 'flow:Front'", "it is a deployment that is not bound"),
    ],
)
def test_a_config_that_does_not_fit_its_app_is_refused(
    app: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "flow.py").write_text(APP)
    (tmp_path / "flow.yaml").write_text(f"applications: [{{{app}}}]")
    with pytest.raises(SettingsError) as caught:
        check_app(ClusterSpec(app="flow.yaml"), print)
    assert said in str(caught.value)


def test_a_config_that_fits_its_app_is_fine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "flow.py").write_text(APP)
    (tmp_path / "flow.yaml").write_text(
        "applications: [{import_path: 'flow:app', deployments: [{name: Front}, {name: Llama, num_replicas: 2}]}]"
    )
    check_app(ClusterSpec(app="flow.yaml"), print)


def test_fields_that_serve_would_ignore_are_found_at_every_depth() -> None:
    found = asked("""
applicatons: []
applications: [{import_path: 'a:b', args: {anything: 1}, route: /x, deployments: [
  {name: D, num_replica: 2, user_config: {anything: 1}, autoscaling_config: {min_replicas: 1, most: 2}}]}]
x-shared: {}
""").findings
    assert [one.path[-1] for one in found] == ["applicatons", "route", "num_replica", "most"]
    assert all("Serve does not know the field" in one.what for one in found)


def test_what_production_sets_is_known() -> None:
    answer = asked("""
http_options: {root_path: /x, request_timeout_s: 20, keep_alive_timeout_s: 5}
grpc_options: {port: 9000, grpc_servicer_functions: []}
logging_config: {encoding: JSON, enable_access_log: false, additional_log_standard_attrs: [name]}
tracing_config: {enabled: false}
applications:
  - import_path: a:b
    logging_config: {log_level: DEBUG}
    deployments:
      - name: D
        placement_group_bundles: [{CPU: 1}]
        placement_group_strategy: PACK
        request_router_config: {request_router_class: "a:B", request_router_kwargs: {x: 1}}
        autoscaling_config: {min_replicas: 1, max_replicas: 2, policy: {policy_function: "a:c"}}
""")
    assert answer.findings == ()
    assert {"num-cpus", "block", "dashboard-host", "no-monitor"} & answer.start >= {"num-cpus", "block"}
