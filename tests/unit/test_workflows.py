"""The workflows: every step is a target of the Makefile, every fault has a job, and no job may more than it needs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import cast

import pytest
import yaml

from pytest_serve_chaos.markers import FAULT_MARKERS
from pytest_serve_chaos.model import Json

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))

Job = dict[str, Json]


def workflow(path: Path) -> dict[str, Json]:
    """A workflow as plain data."""
    return cast("dict[str, Json]", yaml.safe_load(path.read_text()))


def jobs_of(path: Path) -> dict[str, Job]:
    """Its jobs by name."""
    return cast("dict[str, Job]", workflow(path)["jobs"])


def steps_of(path: Path) -> list[dict[str, str]]:
    """The steps of all its jobs."""
    return [step for job in jobs_of(path).values() for step in cast("list[dict[str, str]]", job["steps"])]


def matrix_of(job: Job) -> dict[str, list[str]]:
    """What a job is run with."""
    return cast("dict[str, dict[str, list[str]]]", job["strategy"])["matrix"]


@pytest.fixture(params=WORKFLOWS, ids=lambda path: path.stem)
def path(request: pytest.FixtureRequest) -> Path:
    return cast("Path", request.param)


def test_every_step_is_a_target_of_the_makefile(path: Path) -> None:
    commands = [step["run"] for step in steps_of(path) if "run" in step]
    assert commands
    for command in commands:
        make, *words = re.sub(r'"[^"]*"', "", command.partition(">>")[0]).split()
        targets = [word for word in words if "=" not in word and not word.startswith("--")]
        assert make == "make", command
        assert targets, command
        assert set(targets) <= TARGETS, command


def test_actions_are_pinned_to_a_commit(path: Path) -> None:
    used = [step["uses"] for step in steps_of(path) if "uses" in step]
    assert used
    assert [action for action in used if not re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", action)] == []


def test_a_job_may_read_the_source_and_nothing_else(path: Path) -> None:
    assert workflow(path)["permissions"] == {}
    assert all(job["permissions"] == {"contents": "read"} for job in jobs_of(path).values())
    checkouts = [step for step in steps_of(path) if step.get("uses", "").startswith("actions/checkout@")]
    assert all(cast("Job", step["with"])["persist-credentials"] is False for step in checkouts)


def test_every_job_has_a_deadline_and_keeps_what_it_measured(path: Path) -> None:
    for name, job in jobs_of(path).items():
        assert isinstance(job["timeout-minutes"], int), name
        steps = cast("list[dict[str, str]]", job["steps"])
        if any(re.search(r"make (suite|test-kind|test-local)", step.get("run", "")) for step in steps):
            kept = [step for step in steps if step.get("uses", "").startswith("actions/upload-artifact@")]
            assert [step["if"] for step in kept] == ["always()"], name
            assert any("make --silent summary" in step.get("run", "") for step in steps), name


def test_what_tests_of_the_backend_write_elsewhere_is_kept_too() -> None:
    steps = cast("list[dict[str, str]]", jobs_of(ROOT / ".github" / "workflows" / "kind.yml")["backend"]["steps"])
    (command,) = [step["run"] for step in steps if "test-kind" in step.get("run", "")]
    (upload,) = [cast("Job", step["with"]) for step in steps if "upload-artifact" in step.get("uses", "")]
    written = re.findall(r"--(?:serve-chaos-report-dir|basetemp) ([\w-]+)", command)
    assert str(upload["path"]).split() == written
    assert len(written) == 2


def test_on_kind_every_fault_has_a_job_with_two_versions_of_ray() -> None:
    matrix = matrix_of(jobs_of(ROOT / ".github" / "workflows" / "kind.yml")["chaos"])
    assert set(matrix["fault"]) == set(FAULT_MARKERS)
    assert len(set(matrix["ray"])) == 2


def test_on_kind_every_file_of_tests_has_a_job() -> None:
    matrix = matrix_of(jobs_of(ROOT / ".github" / "workflows" / "kind.yml")["backend"])
    files = {path.stem.removeprefix("test_") for path in (ROOT / "tests" / "kind").glob("test_*.py")}
    assert set(matrix["tests"]) == files


def test_the_plugin_is_tested_on_every_python_that_it_names() -> None:
    matrix = matrix_of(jobs_of(ROOT / ".github" / "workflows" / "ci.yml")["unit"])
    named = re.findall(r"Python :: (3\.\d+)", (ROOT / "pyproject.toml").read_text())
    assert matrix["python"] == named
