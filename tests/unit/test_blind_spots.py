"""What production sets in a Serve config: it has no influence on a verdict, or what it hides is said."""

from __future__ import annotations

import pytest

from pytest_serve_chaos.cluster.blind_spots import blind_spots
from pytest_serve_chaos.model import Json


def config(**fields: Json) -> dict[str, Json]:
    return {"applications": [{"name": "a", "import_path": "a:b"}], **fields}


def app(**fields: Json) -> dict[str, Json]:
    return {"applications": [{"name": "a", "import_path": "a:b", **fields}]}


HIDES: list[tuple[dict[str, Json], str]] = [
    (config(logging_config={"logs_dir": "/var/log/app"}), "logs_dir is not where the plugin looks for the controller"),
    (config(logging_config={"log_level": "ERROR"}), "log_level ERROR leaves failed health checks out"),
    (app(logging_config={"enable_access_log": False}), "a: logging_config.enable_access_log is off: whether handles"),
    (app(logging_config={"log_level": "WARNING"}), "log_level WARNING leaves requests out"),
    (app(logging_config={"log_level": 40}), "log_level 40 leaves requests out"),
    (app(deployments=[{"name": "D", "logging_config": {"logs_dir": "/x"}}]), "a#D: logging_config.logs_dir is not"),
    (config(grpc_options={"grpc_servicer_functions": ["a.b"]}), "no verdict is about the gRPC ingress"),
    (config(http_options={"request_timeout_s": 20}), "Serve ends a request after 20 s"),
]


@pytest.mark.parametrize(("given", "said"), HIDES, ids=[said[:30] for _, said in HIDES])
def test_what_hides_something_is_said(given: dict[str, Json], said: str) -> None:
    (line,) = blind_spots(given)
    assert said in line


@pytest.mark.parametrize(
    "given",
    [
        config(),
        config(logging_config={"encoding": "JSON", "log_level": "DEBUG", "additional_log_standard_attrs": ["name"]}),
        config(logging_config={"enable_access_log": False}),
        config(tracing_config={"enabled": True}),
        config(http_options={"root_path": "/x", "keep_alive_timeout_s": 0, "request_timeout_s": None}),
        config(grpc_options={"port": 9000, "grpc_servicer_functions": []}),
        app(
            deployments=[{
                "name": "D",
                "placement_group_bundles": [{"CPU": 1}],
                "request_router_config": {"request_router_class": "a:B"},
                "autoscaling_config": {"policy": {"policy_function": "a:b"}},
            }]
        ),
    ],
)  # fmt: skip
def test_what_has_no_influence_is_not_mentioned(given: dict[str, Json]) -> None:
    assert blind_spots(given) == []
