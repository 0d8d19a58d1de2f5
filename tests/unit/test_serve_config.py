from __future__ import annotations

import pytest

from pytest_serve_chaos.cluster.serve_config import first_route
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
