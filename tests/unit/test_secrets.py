"""No repr shows a secret: tracebacks, ``-l`` and JUnit files print the reprs of whatever a function was given."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from typing import Any

import pytest

import pytest_serve_chaos
from pytest_serve_chaos.cluster.base import ClusterSpec
from pytest_serve_chaos.cluster.capabilities import Endpoint
from pytest_serve_chaos.cluster.kubernetes.external.start import ExternalCluster
from pytest_serve_chaos.cluster.kubernetes.rayservice.probe import Probe
from pytest_serve_chaos.load import Load
from pytest_serve_chaos.settings import Settings
from pytest_serve_chaos.traffic.kept import KeptLane
from pytest_serve_chaos.traffic.request import RequestSpec

SECRET = "secret-123"
HEADERS = {"Authorization": f"Bearer {SECRET}"}

MAY_HOLD_SECRETS = re.compile(
    r"(^|_)(headers|body|password|secret|token|env|environment|credentials|stdout|command|texts|app_args"
    r"|serve_config|config|url|home)$"
)
"""Names of fields in which credentials of users, of Ray, Redis or Kubernetes come, or the environment of an app."""
MANIFEST = re.compile(r"\b(Manifest|bytes)\b")
ELSEWHERE = {
    ("Command", "arguments"),  # Redis' password is among them
    ("LocalSettings", "redis"),
    ("OwnRedis", "address"),
    ("FoundRayService", "redis"),
    ("Fields", "values"),  # what Serve's REST says has the app's runtime_env
    ("ServeStatus", "options"),
    # The new config of an app that is updated.
    ("Wanted", "to"),
    ("AppUpdateKeywords", "to"),
    ("Target", "code"),
    ("Target", "options"),
    ("FaultChoice", "options"),
    # The query of a path may have a token.
    *((owner, "path") for owner in ("Asking", "Load", "Message", "Probe", "RequestKind", "Settings")),
}
"""Such fields under another name."""
MASKED = {("ClusterDescription", "url")}
"""Such fields whose value has none: what is there is masked before it is put there."""
NO_SECRET = re.compile(r"^(bool|Command|Callable\[.*|ImageEnvironment)$")
"""Types whose repr cannot show one, or that are looked at themselves."""
SEPARATE_PROGRAMS = re.compile(r"\.(in_pod|programs|suite|apps)\.|\.(child|janitor)$")


def dataclasses_of_the_package() -> Iterator[type[Any]]:
    for module in pkgutil.walk_packages(pytest_serve_chaos.__path__, "pytest_serve_chaos."):
        if not SEPARATE_PROGRAMS.search(module.name):
            for found in vars(importlib.import_module(module.name)).values():
                if inspect.isclass(found) and found.__module__ == module.name and dataclasses.is_dataclass(found):
                    yield found


def may_hold_secrets(owner: type[Any], field: dataclasses.Field[Any]) -> bool:
    if (owner.__name__, field.name) in ELSEWHERE | MASKED:
        return (owner.__name__, field.name) in ELSEWHERE
    named = MAY_HOLD_SECRETS.search(field.name) or MANIFEST.search(str(field.type))
    return bool(named) and not NO_SECRET.match(str(field.type))


def test_what_is_to_be_found_is_there() -> None:
    """A field that was renamed would not be looked at any more."""
    there = {
        (owner.__name__, field.name) for owner in dataclasses_of_the_package() for field in dataclasses.fields(owner)
    }
    assert there >= ELSEWHERE | MASKED


def named_tuples() -> Iterator[type[Any]]:
    for module in pkgutil.walk_packages(pytest_serve_chaos.__path__, "pytest_serve_chaos."):
        if not SEPARATE_PROGRAMS.search(module.name):
            for found in vars(importlib.import_module(module.name)).values():
                if inspect.isclass(found) and found.__module__ == module.name and hasattr(found, "_fields"):
                    yield found


def test_no_named_tuple_holds_a_secret() -> None:
    """Their repr shows all of their fields."""
    types = {owner: getattr(owner, "__annotations__", {}) for owner in named_tuples()}
    assert types
    for owner, fields in types.items():
        for name, type_ in fields.items():
            known = NO_SECRET.match(str(getattr(type_, "__forward_arg__", type_)))
            assert not MAY_HOLD_SECRETS.search(name) or known, f"{owner.__name__}.{name}"


def case_of(owner: type[Any], field: dataclasses.Field[Any]) -> Any:
    where = owner.__module__.removeprefix("pytest_serve_chaos.")
    return pytest.param(owner, field.name, id=f"{where}.{owner.__name__}.{field.name}")


CASES = [
    case_of(owner, field)
    for owner in dataclasses_of_the_package()
    for field in dataclasses.fields(owner)
    if may_hold_secrets(owner, field)
]


def test_the_fields_that_may_hold_secrets_are_found() -> None:
    assert len(CASES) > 40


@pytest.mark.parametrize(("owner", "name"), CASES)
def test_a_field_that_may_hold_a_secret_is_not_in_the_repr(owner: type[Any], name: str) -> None:
    made = object.__new__(owner)
    for field in dataclasses.fields(owner):
        object.__setattr__(made, field.name, SECRET if field.name == name else None)
    assert SECRET not in repr(made)


@pytest.mark.parametrize(
    "holder",
    [
        Load(headers=HEADERS, body=SECRET.encode()),
        RequestSpec(f"http://me:{SECRET}@a/?token={SECRET}", headers=HEADERS, body=SECRET.encode()),
        KeptLane("proxy", RequestSpec("http://a/", headers=HEADERS)),
        Endpoint("http://a/", HEADERS),
        ExternalCluster("c", "n", "r", f"http://a/?token={SECRET}", probe=Probe(headers=HEADERS, body=SECRET.encode())),
        ClusterSpec(env=(("KEY", SECRET),), app_args=(("key", SECRET),)),
        Settings(url=f"http://a/?token={SECRET}", path=f"/?token={SECRET}", headers=(("Key", SECRET),), body=SECRET),
    ],
)
def test_what_is_inside_another_is_not_shown_either(holder: object) -> None:
    assert SECRET not in repr(holder)
