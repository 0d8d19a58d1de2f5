from __future__ import annotations

from pathlib import Path

import pytest

from pytest_serve_chaos.cluster.base import ClusterSpec
from pytest_serve_chaos.cluster.serve_config import applications, first_route, serve_config
from pytest_serve_chaos.model import Json


@pytest.mark.parametrize(
    ("apps", "route"),
    [
        ([{"import_path": "a:b"}], "/"),
        ([{"import_path": "a:b", "route_prefix": "/rank"}, {"route_prefix": "/other"}], "/rank"),
        ([{"import_path": "a:b", "route_prefix": None}, {"route_prefix": "/front"}], "/front"),
        ([{"import_path": "a:b", "route_prefix": None}], "/"),
    ],
    ids=["default", "own", "internal-first", "internal-only"],
)
def test_traffic_goes_to_the_first_app_that_has_a_route(apps: list[Json], route: str) -> None:
    assert first_route({"applications": apps}) == route


@pytest.mark.parametrize(
    ("given", "of_the_app"),
    [
        ("", {"enable_access_log": True}),
        ("logging_config: {encoding: JSON, enable_access_log: false}", {"encoding": "JSON", "enable_access_log": True}),
    ],
    ids=["ours", "own"],
)
def test_an_app_logs_who_called_it_in_the_encoding_that_the_config_wants(
    tmp_path: Path, given: str, of_the_app: dict[str, Json]
) -> None:
    file = tmp_path / "serve.yaml"
    own = "{encoding: TEXT, enable_access_log: false}"
    apps = f"[{{import_path: 'a:b'}}, {{import_path: 'a:b', name: quiet, logging_config: {own}}}]"
    file.write_text(f"{given}\napplications: {apps}\n")
    first, quiet = applications(serve_config(ClusterSpec(app=str(file))))
    assert first["logging_config"] == of_the_app
    assert quiet["logging_config"] == {"encoding": "TEXT", "enable_access_log": False}
    first, _ = applications(serve_config(ClusterSpec(app=str(file), profile="guide")))
    assert "logging_config" not in first


def test_what_the_user_says_of_http_stays(tmp_path: Path) -> None:
    file = tmp_path / "serve.yaml"
    file.write_text("{http_options: {root_path: /x, request_timeout_s: 20}, applications: [{import_path: 'a:b'}]}")
    config = serve_config(ClusterSpec(app=str(file)))
    assert config["http_options"] == {"root_path": "/x", "request_timeout_s": 20}
    assert first_route(config) == "/", "a request reaches Serve without the root_path"
