"""The workflows: every step is a target of the Makefile, every fault has a job, and no job has rights to spare."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import cast

import pytest
import yaml

from pytest_serve_chaos.cluster.private_files import PRIVATE
from pytest_serve_chaos.faults.catalogue import BUILT_IN
from pytest_serve_chaos.model import Json

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
# It runs in repositories of others, which have no Makefile of ours.
FOR_OTHERS = ROOT / ".github" / "workflows" / "chaos.yml"
RELEASE = ROOT / ".github" / "workflows" / "release.yml"
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


@pytest.fixture(params=[path for path in WORKFLOWS if path not in (FOR_OTHERS, RELEASE)], ids=lambda path: path.stem)
def path(request: pytest.FixtureRequest) -> Path:
    return cast("Path", request.param)


def test_every_step_is_a_target_of_the_makefile(path: Path) -> None:
    assert_make(path)


def assert_make(path: Path) -> None:
    commands = [step["run"] for step in steps_of(path) if "run" in step]
    assert commands
    for command in commands:
        make, *words = re.sub(r'"[^"]*"', "", command.partition(">>")[0]).split()
        targets = [word for word in words if "=" not in word and not word.startswith("--")]
        assert make == "make", command
        assert targets, command
        assert set(targets) <= TARGETS, command


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
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
    written = re.findall(r"--(?:serve-chaos-report-dir=|basetemp )([\w-]+)", command)
    assert [path for path in str(upload["path"]).split() if not path.startswith("!")] == written
    assert len(written) == 2


def test_on_kind_every_fault_of_the_suite_has_a_job_with_two_versions_of_ray() -> None:
    matrix = matrix_of(jobs_of(ROOT / ".github" / "workflows" / "kind.yml")["chaos"])
    suite = "".join(path.read_text() for path in (ROOT / "pytest_serve_chaos" / "suite").glob("test_*.py"))
    assert set(matrix["fault"]) == {fault.name for fault in BUILT_IN if f"mark.{fault.name}" in suite}
    assert len(set(matrix["ray"])) == 2


def test_on_kind_every_file_of_tests_has_a_job() -> None:
    matrix = matrix_of(jobs_of(ROOT / ".github" / "workflows" / "kind.yml")["backend"])
    files = {path.stem.removeprefix("test_") for path in (ROOT / "tests" / "kind").glob("test_*.py")}
    assert set(matrix["tests"]) == files


def test_the_plugin_is_tested_on_every_python_that_it_names() -> None:
    matrix = matrix_of(jobs_of(ROOT / ".github" / "workflows" / "ci.yml")["unit"])
    named = re.findall(r"Python :: (3\.\d+)", (ROOT / "pyproject.toml").read_text())
    assert matrix["python"] == named


def test_the_gate_waits_for_every_job_that_must_succeed() -> None:
    jobs = jobs_of(ROOT / ".github" / "workflows" / "ci.yml")
    may_fail = {name for name, job in jobs.items() if job.get("continue-on-error")}
    assert may_fail == {"pytest-main"}
    assert set(cast("list[str]", jobs["gate"]["needs"])) == set(jobs) - may_fail - {"gate"}
    assert jobs["gate"]["if"] == "always()"


# -- the release -------------------------------------------------------------------------------------------------------


def test_every_step_of_a_release_is_a_target_of_the_makefile() -> None:
    assert_make(RELEASE)


def test_only_the_job_that_publishes_may_prove_who_it_is() -> None:
    jobs = jobs_of(RELEASE)
    assert workflow(RELEASE)["permissions"] == {}
    publish = jobs.pop("publish")
    assert publish["permissions"] == {"id-token": "write"}
    assert publish["environment"] == "release"
    assert set(cast("list[str]", publish["needs"])) == set(jobs)
    assert all(job["permissions"] == {"contents": "read"} for job in jobs.values())
    assert all(isinstance(job["timeout-minutes"], int) for job in (publish, *jobs.values()))


# -- the workflow for other repositories -------------------------------------------------------------------------------


def inputs_of(path: Path) -> dict[str, dict[str, str]]:
    """What a reusable workflow takes."""
    # YAML reads the key `on` as true.
    triggers = yaml.safe_load(path.read_text())[True]
    return cast("dict[str, dict[str, str]]", triggers["workflow_call"]["inputs"])


def test_the_workflow_for_others_runs_known_faults_and_is_documented() -> None:
    how_to = (ROOT / "docs" / "how-to.md").read_text()
    inputs = inputs_of(FOR_OTHERS)
    assert set(json.loads(inputs["faults"]["default"])) <= {fault.name for fault in BUILT_IN}
    table = how_to.partition("| input | default |")[2].partition("\n\n")[0]
    assert re.findall(r"^\| `([\w-]+)` \|", table, re.MULTILINE) == list(inputs)


def test_no_input_becomes_part_of_a_script() -> None:
    assert workflow(FOR_OTHERS)["permissions"] == {}
    assert [step["run"] for step in steps_of(FOR_OTHERS) if "${{" in step.get("run", "")] == []


def test_the_example_in_the_how_to_gives_inputs_that_exist() -> None:
    how_to = (ROOT / "docs" / "how-to.md").read_text()
    (example,) = (text for text in re.findall(r"```yaml\n(.*?)```", how_to, re.DOTALL) if "chaos.yml@" in text)
    (caller,) = cast("dict[str, dict[str, Json]]", yaml.safe_load(example)["jobs"]).values()
    assert set(cast("dict[str, Json]", caller["with"])) <= set(inputs_of(FOR_OTHERS))


def uploads(path: Path) -> list[str]:
    """What each upload takes of the directories of runs, as the text of its patterns."""
    text = path.read_text()
    if path.suffix == ".md":
        text = "\n".join(block for block in text.split("```") if block.startswith("yaml"))
    steps = re.findall(r"upload-artifact@.*?path: (.*?)(?:\n\n|\Z|include-hidden-files)", text, re.DOTALL)
    return [step for step in steps if "chaos" in step]


@pytest.mark.parametrize("file", [*WORKFLOWS, ROOT / "docs" / "how-to.md"], ids=lambda path: path.name)
def test_credentials_are_not_uploaded(file: Path) -> None:
    for taken in uploads(file):
        directories = re.findall(r"^\s*(?!!)([\w-]+)$", taken.replace("|", "\n"), re.MULTILINE)
        assert directories
        for directory in directories:
            assert f"!{directory}/**/{PRIVATE}/**" in taken


def test_the_uploads_are_found() -> None:
    files = [path.name for path in (*WORKFLOWS, ROOT / "docs" / "how-to.md") if uploads(path)]
    assert files == ["chaos.yml", "ci.yml", "kind.yml", "how-to.md"]
