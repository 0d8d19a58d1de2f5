"""No output of a run has a secret: not the terminal with all variables, and no file that a run leaves."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from pytest_serve_chaos.cli import main
from pytest_serve_chaos.testing import FakeBehaviour
from tests.plugin.conftest import Ran, RunChaos

MARK = "s3cr3t"
"""In each secret of these runs."""

ALL = ("-l", "-vv", "--tb=long", "-rA", "--junitxml=junit.xml")

CONFIG = f"""
applications:
- name: ranker
  route_prefix: /
  import_path: "pytest_serve_chaos.apps.sleepy_pid:app"
  args: {{api_key: {MARK}-of-the-args}}
  runtime_env: {{env_vars: {{API_KEY: {MARK}-of-the-environment}}}}
  deployments:
  - {{name: SleepyPid, user_config: {{version: {MARK}-of-the-user-config}}}}
"""

REQUESTS = f"""
- path: /rank?token={MARK}-of-a-path
  headers: {{Authorization: "Bearer {MARK}-of-a-request"}}
  body: {{password: {MARK}-of-a-body}}
"""

GOES_WRONG = """
import os

import pytest

@pytest.mark.replica_failure
def test_fails(experiment):
    experiment.measure(availability=None, window="500ms")
    assert False

@pytest.mark.replica_failure
def test_cannot_send(experiment):
    experiment.sending(url=os.environ["SOMEWHERE"]).run(availability=0.7, window="1500ms", longest_outage="20s")

@pytest.mark.replica_failure
def test_is_broken_inside(experiment, monkeypatch):
    def sample(self):
        raise OSError("too many open files")

    monkeypatch.setattr("pytest_serve_chaos.observe.watcher.Watcher.sample", sample)
    experiment.run(availability=0.7, window="1500ms", longest_outage="20s")

def test_by_hand(chaos, traffic):
    with traffic(check=lambda answer: 1 / 0, wait=False), chaos.replica().kill():
        assert False
"""


def shown(ran: Ran) -> dict[str, str]:
    """All that the run shows, by where it does so."""
    files = [ran.path / "junit.xml", *(path for path in ran.directory.rglob("*") if path.is_file())]
    return {
        "terminal": ran.text,
        "errors": ran.result.stderr.str(),
        **{str(path.relative_to(ran.path)): path.read_text() for path in files},
    }


def assert_no_secret(found: dict[str, str]) -> None:
    for where, text in found.items():
        lines = [line for line in text.splitlines() if MARK in line]
        assert not lines, f"{where}: {lines[0][:300]}"


@pytest.fixture
def config(pytester: pytest.Pytester) -> str:
    (pytester.path / "serve.yaml").write_text(CONFIG)
    return "--serve-chaos-app=serve.yaml"


@pytest.fixture(params=["settings", "a file of requests"])
def sent(request: pytest.FixtureRequest, pytester: pytest.Pytester) -> tuple[str, ...]:
    """The options that say what is sent."""
    if request.param == "settings":
        return (
            f"--serve-chaos-headers=Authorization: Bearer {MARK}-of-a-header",
            "--serve-chaos-method=POST",
            f"--serve-chaos-body={MARK}-of-the-body",
            f"--serve-chaos-path=/rank?token={MARK}-of-the-path",
        )
    (pytester.path / "requests.yaml").write_text(REQUESTS)
    return ("--serve-chaos-requests=requests.yaml", f"--serve-chaos-headers=X-Key: {MARK}-of-a-header")


def test_nothing_that_a_run_shows_or_leaves_has_a_secret(
    run_chaos: RunChaos,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    config: str,
    sent: tuple[str, ...],
) -> None:
    monkeypatch.setenv("SOMEWHERE", f"ftp://me:{MARK}@host/?token={MARK}")
    ran = run_chaos(GOES_WRONG, *ALL, config, *sent, behaviour=FakeBehaviour(below="/rank"))
    assert "run it again" in ran.text
    assert "too many open files" in ran.text
    assert "has no host to send to" in ran.text
    found = shown(ran)
    assert {"history.jsonl", "summary.json"} <= {Path(name).name for name in found}
    history = str(ran.directory / "history.jsonl")
    for format_ in ("table", "json", "github"):
        main(["analyse", "--format", format_, history])
        found[f"analyse --format {format_}"] = "".join(capsys.readouterr())
    assert_no_secret(found)


def test_nobody_else_can_enter_the_directory_of_a_run(run_chaos: RunChaos) -> None:
    ran = run_chaos("def test_it(serve_cluster): pass")
    assert stat.S_IMODE(ran.directory.stat().st_mode) == 0o700


def test_variables_of_a_test_are_still_shown(run_chaos: RunChaos) -> None:
    ran = run_chaos(
        """
        import pytest

        @pytest.mark.replica_failure
        def test_it(experiment):
            wanted = "a variable of the test"
            experiment.sending(url="ftp://host/").run(availability=0.7, window="1500ms", longest_outage="20s")
        """,
        *ALL,
    )
    ran.result.stdout.fnmatch_lines(["wanted * = 'a variable of the test'"])
    assert "__post_init__" in ran.text
    assert "SplitResult" not in ran.text
