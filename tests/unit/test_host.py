"""What a history says of the machine, and of what a profile sets."""

from __future__ import annotations

import getpass
import json
import platform
import socket
from pathlib import Path
from typing import cast

from pytest_serve_chaos.cluster.base import ClusterSpec
from pytest_serve_chaos.cluster.profile_settings import profile_settings
from pytest_serve_chaos.cluster.serve_config import serve_config
from pytest_serve_chaos.model import Json
from pytest_serve_chaos.observe.host import host_facts


def settings_of(spec: ClusterSpec) -> dict[str, dict[str, Json]]:
    return cast("dict[str, dict[str, Json]]", profile_settings(spec, serve_config(spec)))


def test_the_machine_has_its_system_processors_and_memory() -> None:
    found = host_facts(has_cluster=True)
    assert found["has_cluster"] is True
    assert platform.release() in str(found["system"])
    assert isinstance(found["processors"], int)
    assert isinstance(found["memory"], int)
    assert found["memory"] > 1 << 28


def test_no_name_of_the_machine_of_a_user_or_of_a_directory_is_recorded() -> None:
    words = json.dumps(host_facts(has_cluster=True)).lower().replace(",", " ").replace('"', " ").split()
    assert not {socket.gethostname().lower(), getpass.getuser().lower(), str(Path.home())} & set(words)


def test_the_fast_profile_says_each_variable_and_option_that_it_shortens() -> None:
    found = settings_of(ClusterSpec())
    assert found["head"]["RAY_health_check_period_ms"] == "1000"
    assert found["workers"]["RAY_gcs_rpc_server_reconnect_timeout_s"] == "600"
    assert found["serve"] == {
        "enable_access_log": False,
        "health_check_period_s": 1.0,
        "health_check_timeout_s": 3.0,
        "graceful_shutdown_timeout_s": 2.0,
    }


def test_the_guide_profile_differs_by_what_kuberay_sets_on_workers_alone() -> None:
    assert settings_of(ClusterSpec(profile="guide")) == {"workers": {"RAY_gcs_rpc_server_reconnect_timeout_s": "600"}}


def test_an_app_of_ones_own_has_the_options_that_its_author_gave_it() -> None:
    assert settings_of(ClusterSpec(app="mine:app"))["serve"] == {"enable_access_log": False}


def test_of_a_users_variables_only_those_that_the_profile_sets_are_recorded() -> None:
    spec = ClusterSpec(env=(("RAY_health_check_period_ms", "700"), ("AWS_SECRET_ACCESS_KEY", "hunter2")))
    found = settings_of(spec)
    assert found["head"]["RAY_health_check_period_ms"] == "700"
    assert "hunter2" not in json.dumps(found)


def test_an_option_that_a_test_gives_its_app_is_the_one_in_use() -> None:
    given: tuple[tuple[str, Json], ...] = (("options", {"health_check_period_s": 4.0}),)
    assert settings_of(ClusterSpec(app_args=given))["serve"]["health_check_period_s"] == 4.0
