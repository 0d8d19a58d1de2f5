"""The door to `otel`, which imports OpenTelemetry: only who asks for it needs that."""

from __future__ import annotations

from pytest_serve_chaos.errors import MissingDependency
from pytest_serve_chaos.report.base import Outcomes


def check() -> None:
    """Finds out whether a run can be sent, before it begins.

    Raises:
        MissingDependency: OpenTelemetry's SDK, or the exporter, is not installed.
        SettingsError: No exporter takes what the environment says.
    """
    try:
        from pytest_serve_chaos.telemetry import otel
    except ImportError as error:
        raise MissingDependency(
            f"OpenTelemetry is not installed: {error}", fix=["pip install 'pytest-serve-chaos[otel]'"]
        ) from error
    otel.check()


def send(outcomes: Outcomes) -> str:
    """Sends a run to where the OTEL_* variables say.

    Returns:
        What was sent, in words.

    Raises:
        MissingDependency: OpenTelemetry's SDK, or the exporter, is not installed.
        SettingsError: No exporter takes what the environment says.
        ExportFailed: Nobody took it, or not in time; or the history does not say when the run began.
    """
    check()
    from pytest_serve_chaos.telemetry import otel

    return otel.export(outcomes)
