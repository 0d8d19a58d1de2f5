"""The properties that a test case carries in a JUnit XML file."""

from __future__ import annotations

from pytest_serve_chaos.analysis.result import Result

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
        *_figures(result),
    ]
    return [(PREFIX + name, value) for name, value in pairs if value]


def _figures(result: Result) -> list[tuple[str, str]]:
    measurement = result.measurement
    pairs = []
    if measurement.sent:
        low, high = measurement.interval
        pairs += [
            ("sent", str(measurement.sent)),
            ("lost", str(measurement.lost)),
            ("in_flight", str(measurement.in_flight)),
            ("lost_beyond_in_flight", str(measurement.lost_beyond_in_flight)),
            ("availability", f"{measurement.availability:.6f}"),
            ("availability_low", f"{low:.6f}"),
            ("availability_high", f"{high:.6f}"),
            ("longest_outage", _seconds(measurement.longest_outage)),
            ("traffic_back", _seconds(measurement.traffic_back)),
        ]
    if measurement.before is not None:
        pairs.append(("p99_before", _seconds(measurement.before.p99)))
    if measurement.during is not None:
        pairs.append(("p99_during", _seconds(measurement.during.p99)))
    if measurement.redundancy_back is not None or result.never_redundant:
        pairs.append(("redundancy_back", _seconds(measurement.redundancy_back)))
    if measurement.settled is not None or result.never_settled:
        pairs.append(("settled", _seconds(measurement.settled)))
    return pairs


def _seconds(value: float | None) -> str:
    return "never" if value is None else f"{value:.3f}"
