"""`--serve-chaos-otel`: a run is sent to OpenTelemetry when it has ended, and only if somebody asks."""

from __future__ import annotations

import pytest

from pytest_serve_chaos import telemetry
from pytest_serve_chaos.errors import ExportFailed, MissingDependency
from pytest_serve_chaos.report.base import Outcomes
from tests.plugin.conftest import RunChaos

BROKEN_BY_HAND = """
def test_by_hand(chaos):
    chaos.replica().kill()
"""


def test_a_run_is_sent_when_it_has_ended(run_chaos: RunChaos, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Outcomes] = []

    def send(outcomes: Outcomes) -> str:
        sent.append(outcomes)
        return "sent to OpenTelemetry: all of it"

    monkeypatch.setattr(telemetry, "check", lambda: None)
    monkeypatch.setattr(telemetry, "send", send)
    ran = run_chaos(BROKEN_BY_HAND, "--serve-chaos-otel")

    ran.outcomes(passed=1)
    ran.result.stdout.fnmatch_lines(["sent to OpenTelemetry: all of it"])
    assert [result.experiment for outcomes in sent for result in outcomes.results] == ["by_hand"]


def test_what_cannot_be_sent_is_a_warning_and_costs_no_report(
    run_chaos: RunChaos, monkeypatch: pytest.MonkeyPatch
) -> None:
    def send(outcomes: Outcomes) -> str:
        raise ExportFailed("the spans could not be sent to OpenTelemetry")

    monkeypatch.setattr(telemetry, "check", lambda: None)
    monkeypatch.setattr(telemetry, "send", send)
    ran = run_chaos(BROKEN_BY_HAND, "--serve-chaos-otel")

    assert ran.result.ret == pytest.ExitCode.OK, "a collector that is away says nothing of the cluster"
    ran.outcomes(passed=1)
    ran.result.stdout.fnmatch_lines(["WARNING: the spans could not be sent to OpenTelemetry*"])
    assert ran.summary["schema"] == 2


def test_what_is_not_installed_is_a_usage_error_before_any_test(
    run_chaos: RunChaos, monkeypatch: pytest.MonkeyPatch
) -> None:
    def check() -> None:
        raise MissingDependency("OpenTelemetry is not installed", fix=["pip install 'pytest-serve-chaos[otel]'"])

    monkeypatch.setattr(telemetry, "check", check)
    ran = run_chaos(BROKEN_BY_HAND, "--serve-chaos-otel")

    assert ran.result.ret == pytest.ExitCode.USAGE_ERROR
    ran.result.stderr.fnmatch_lines(["*pip install 'pytest-serve-chaos[[]otel]'*"])
