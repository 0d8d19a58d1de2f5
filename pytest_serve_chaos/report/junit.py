"""The properties that a test case carries in a JUnit XML file."""

from __future__ import annotations

import math

from pytest_serve_chaos.analysis.result import Result
from pytest_serve_chaos.model import Checked
from pytest_serve_chaos.printable import printable
from pytest_serve_chaos.report.terminal import part_lines

PREFIX = "serve_chaos_"


def properties(result: Result) -> list[tuple[str, str]]:
    """Names and values of a result, all text: seconds and shares as plain numbers, ``never`` for what did not come.

    A figure that was not measured is left out.
    """
    pairs = [
        ("experiment", result.experiment),
        ("fault", result.fault),
        ("verdict", result.outcome),
        *(("reason", reason) for reason in result.reasons),
        *(("remark", remark) for remark in result.remarks),
        *(("warning", warning.line) for warning in result.warnings),
        *(("check", _checked(checked)) for checked in result.checks),
        *(("part", line) for line in part_lines(result)),
        *_cluster(result),
        *_figures(result),
    ]
    return [(PREFIX + name, printable(value)) for name, value in pairs if value]


def _checked(checked: Checked) -> str:
    """What one check found, in a line."""
    found = [f"missed: {line}" for line in checked.missed] + [f"unknown: {line}" for line in checked.unknown]
    return f"{checked.check}: {'; '.join(found) or 'met'}"


def _cluster(result: Result) -> list[tuple[str, str]]:
    of = result.description
    if of is None:
        return []
    return [("backend", of.backend), ("ray_version", of.ray_version), ("app", of.app), ("ingress", of.ingress)]


def _figures(result: Result) -> list[tuple[str, str]]:
    measurement = result.measurement
    pairs = [(name, str(getattr(measurement, name))) for name in _NUMBERS if getattr(measurement, name) is not None]
    if measurement.availability is not None and measurement.interval is not None:
        low, high = measurement.interval
        pairs += [
            ("availability", f"{measurement.availability:.6f}"),
            ("availability_low", f"{low:.6f}"),
            ("availability_high", f"{high:.6f}"),
            ("seconds", _seconds(measurement.seconds)),
            ("outages", str(len(measurement.outages))),
            ("longest_outage", _seconds(measurement.longest_outage)),
            ("slow_after", _seconds(measurement.slow_after)),
            ("traffic_back", _seconds(measurement.traffic_back)),
            ("send_lag_p99", _seconds(measurement.send_lag_p99)),
        ]
        pairs += [("error", f"{error}: {number}") for error, number in measurement.errors.items()]
    if measurement.before is not None:
        pairs.append(("p99_before", _seconds(measurement.before.p99)))
    if measurement.during is not None:
        pairs.append(("p99_during", _seconds(measurement.during.p99)))
    if measurement.healed is not None:
        pairs.append(("healed", _seconds(measurement.healed)))
    if measurement.redundancy_back is not None or result.never_redundant:
        pairs.append(("redundancy_back", _seconds(measurement.redundancy_back)))
    if measurement.settled is not None or result.never_settled:
        pairs.append(("settled", _seconds(measurement.settled)))
    return pairs


_NUMBERS = (
    "sent",
    "lost",
    "late",
    "in_flight",
    "lost_beyond_in_flight",
    "persistent_sent",
    "persistent_lost",
    "not_sent",
    "most_in_flight",
)


def _seconds(value: float | None) -> str:
    return "never" if value is None or math.isinf(value) else f"{value:.3f}"
