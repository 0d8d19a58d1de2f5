"""The example of `docs/add-a-check.md`: a check of somebody else's, through public names and the hook alone."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from fnmatch import fnmatch

import pytest

from pytest_serve_chaos.cli import main
from pytest_serve_chaos.events import CheckDone, of_kind
from pytest_serve_chaos.history import History
from tests.plugin.conftest import ROOT, Ran, RunChaos, junit_properties

PAGE = (ROOT / "docs" / "add-a-check.md").read_text()
P999: str
TEST: str
CONFTEST: str
P999, TEST, CONFTEST = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)

QUICK = {'window="60s"': 'availability=0.7, window="700ms"'}
"""The test of the page takes a minute, and so many requests that they show a p999."""

TOO_SLOW = "the p999 latency was * s. Allowed: 0 s."


@pytest.fixture(autouse=True)
def my_checks(pytester: pytest.Pytester) -> Iterator[None]:
    """The check, in the current directory."""
    pytester.path.joinpath("my_checks.py").write_text(P999)
    path = [*sys.path]
    yield
    sys.path[:] = path
    sys.modules.pop("my_checks", None)


def page_test(check: str) -> str:
    """The test of the page, in a moment, with that check."""
    source = TEST.replace("P999(limit=0.5)", check)
    for slow, quick in QUICK.items():
        assert slow in source
        source = source.replace(slow, quick)
    assert check in source
    return source


def experiment(ran: Ran) -> dict[str, object]:
    """What the summary has of the only one."""
    experiments = ran.summary["experiments"]
    assert isinstance(experiments, list)
    (found,) = experiments
    assert isinstance(found, dict)
    return dict(found)


def test_a_check_that_is_met_passes(run_chaos: RunChaos) -> None:
    ran = run_chaos(page_test("P999(limit=float('inf'), least=1)"))

    ran.outcomes(passed=1)
    assert experiment(ran)["checks"] == [{"check": "p999", "missed": [], "unknown": []}]


def test_its_reason_is_in_the_table_the_summary_junit_and_the_history(run_chaos: RunChaos) -> None:
    ran = run_chaos(page_test("P999(limit=0.0, least=1)"), "--junitxml=junit.xml")

    ran.outcomes(failed=1)
    ran.result.stdout.fnmatch_lines(
        [
            f"*ExpectationFailed: losing_a_worker_keeps_p999_low: failed: {TOO_SLOW}",
            "*= serve chaos =*",
            f"  {TOO_SLOW}",
        ]
    )
    found = experiment(ran)
    assert found["verdict"] == "failed"
    assert found["checks"] == [{"check": "p999", "missed": found["reasons"], "unknown": []}]
    reasons = [value for name, value in junit_properties(ran) if name == "serve_chaos_reason"]
    assert reasons == found["reasons"]
    history = History.load(ran.directory / "history.jsonl")
    (checked,) = of_kind(CheckDone, history.events)
    assert [*checked.found.missed] == reasons


def test_what_it_needs_is_inconclusive(run_chaos: RunChaos) -> None:
    ran = run_chaos(page_test("P999(limit=0.5)"))

    ran.outcomes(inconclusive=1)
    ran.result.stdout.fnmatch_lines(["*inconclusive: [0-9]* requests do not show a p999 latency: that takes 3000*"])


def test_analyse_judges_by_it_again_if_it_is_named(run_chaos: RunChaos, capsys: pytest.CaptureFixture[str]) -> None:
    ran = run_chaos(page_test("P999(limit=0.0, least=1)"))
    history = str(ran.directory / "history.jsonl")
    capsys.readouterr()
    lenient = P999.replace("if found > self.limit:", "if found < 0:")
    (ran.path / "my_checks.py").write_text(lenient)
    sys.modules.pop("my_checks", None)

    assert main(["analyse", "--check=my_checks:P999", history]) == 0
    again = capsys.readouterr().out
    assert "passed" in again
    assert "not judged again" not in again

    assert main(["analyse", history]) == 1
    then = " ".join(capsys.readouterr().out.split())
    assert fnmatch(then, f"*{TOO_SLOW}*")
    assert "note: the check p999 (my_checks:P999) is not judged again: what it found when the experiment ran" in then


def test_analyse_refuses_a_check_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["analyse", "--check=no_such_module:P999", "history.jsonl"]) == 2
    assert "the check no_such_module:P999 cannot be loaded: ModuleNotFoundError" in capsys.readouterr().err


def test_a_conftest_adds_it_to_all_experiments(run_chaos: RunChaos, pytester: pytest.Pytester) -> None:
    pytester.path.joinpath("conftest.py").write_text(CONFTEST.replace("limit=2.0", "limit=0.0, least=1"))
    ran = run_chaos(
        """
        import pytest

        @pytest.mark.replica_failure
        def test_it(experiment):
            experiment.sending(rate=20).run(availability=0.7, window="700ms")
        """
    )

    ran.outcomes(failed=1)
    ran.result.stdout.fnmatch_lines([f"*ExpectationFailed: it: failed: {TOO_SLOW}"])


def test_a_check_that_raises_is_inconclusive_and_its_traceback_is_in_the_report(run_chaos: RunChaos) -> None:
    ran = run_chaos(page_test('P999(limit="soon", least=1)'))

    ran.outcomes(inconclusive=1)
    ran.result.stdout.fnmatch_lines(
        [
            "*inconclusive: the check p999 raised TypeError: '>' not supported between instances of *",
            "*serve chaos: checks that raised an exception*",
            "Traceback (most recent call last):",
            '  File "*my_checks.py", line *, in judge',
        ]
    )
    found = experiment(ran)
    assert "my_checks.py" in json.dumps(found["tracebacks"])
    assert found["verdict"] == "inconclusive"


@pytest.mark.parametrize("wrong", ["P999", "42", "P999(limit=1.0), P999(limit=2.0)"])
def test_what_is_no_check_breaks_nothing(run_chaos: RunChaos, wrong: str) -> None:
    ran = run_chaos(page_test(wrong))

    ran.result.stdout.fnmatch_lines(["*SettingsError: checks: *"])
    (cluster,) = ran.backend.clusters
    assert cluster.world.log == [], "something was broken for nothing"


def test_a_check_alone_is_a_demand_on_the_requests(run_chaos: RunChaos) -> None:
    ran = run_chaos(
        """
        import pytest
        from my_checks import P999

        @pytest.mark.redis_failure
        def test_it(experiment):
            assert experiment.run(window="700ms", checks=[P999(limit=float('inf'), least=1)]).passed
        """
    )

    ran.outcomes(passed=1)
