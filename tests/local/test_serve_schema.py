"""What the Serve of this machine says of configs; no cluster is started."""

from __future__ import annotations

import pytest
import yaml

from pytest_serve_chaos.cluster.serve_check import RayAnswer, ask_ray


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
    ],
)  # fmt: skip
def test_serve_says_where_and_why_it_refuses_a_config(text: str, path: tuple[str | int, ...], said: str) -> None:
    (found,) = asked(text).findings
    assert found.path[: len(path)] == path
    assert said in found.what


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
