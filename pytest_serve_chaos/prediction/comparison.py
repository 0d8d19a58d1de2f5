"""What was expected of a fault against what was seen."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_serve_chaos.analysis.result import Result
from pytest_serve_chaos.analysis.words import duration
from pytest_serve_chaos.events import Predicted, of_kind
from pytest_serve_chaos.predicted import Prediction
from pytest_serve_chaos.prediction.words import expected

NOT_COMPARED = "not compared, since these figures are not the cluster's alone"
"""What stands in place of a comparison; a verdict, or a note, says why."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """A prediction against what was seen. No verdict depends on it.

    What is beyond a prediction is None where nobody knows it: also where the figures are not the cluster's alone.

    Attributes:
        prediction: What was expected.
        lost: Requests that were lost from the fault to the end of the observation; None: nobody knows.
        unexplained: Those beyond what was expected at most; None: nobody knows.
        outage: Seconds of the longest outage; None: nobody knows.
        outage_beyond: Seconds beyond what was expected at most, 0.0 within it. None: nobody knows.
        redundancy: Seconds until redundancy was back; None: it never was.
        redundancy_beyond: Seconds beyond what was expected at most; less than 0: by so many sooner than expected; 0.0:
            within that. None: nobody knows.
        doubtful: What of the figures is not the doing of the cluster; "" if all is.
    """

    prediction: Prediction
    lost: int | None
    unexplained: int | None
    outage: float | None
    outage_beyond: float | None
    redundancy: float | None
    redundancy_beyond: float | None
    doubtful: str = ""

    @property
    def text(self) -> str:
        """Both in a line."""
        line = f"expected: {expected(self.prediction)}; seen: {', '.join(self._seen())}"
        return f"{line}; {NOT_COMPARED}" if self.doubtful else line

    def _seen(self) -> list[str]:
        parts = ["redundancy not back" if self.redundancy is None else duration(self.redundancy)]
        if self.redundancy_beyond:
            later = "later" if self.redundancy_beyond > 0 else "sooner"
            parts[0] += f" ({duration(abs(self.redundancy_beyond))} {later} than expected)"
        if self.outage:
            more = self.outage_beyond or 0.0
            longer = f" ({duration(more)} longer than expected)" if more > 0 else ""
            parts.append(f"an outage of {duration(self.outage)}{longer}")
        if self.lost is not None:
            unexplained = f", {self.unexplained} unexplained" if self.unexplained else ""
            parts.append(f"{self.lost} lost in the whole observation{unexplained}")
        return parts


def comparison(result: Result) -> Comparison | None:
    """What was expected of an experiment against what was seen; None where there is nothing to compare.

    That is so without a prediction, if the fault did not land, and of several faults in one experiment, whose losses
    nobody can tell apart.
    """
    predictions = [event.prediction for event in of_kind(Predicted, result.events)]
    if len(predictions) != 1 or predictions[0].why_not or not result.landed:
        return None
    return compared(predictions[0], result)


def compared(prediction: Prediction, result: Result) -> Comparison:
    """A prediction against what a result says.

    Args:
        prediction: What was expected.
        result: Of the experiment.
    """
    measured = result.measurement
    return against(
        prediction,
        lost=lost_in_all(result),
        outage=measured.longest_outage,
        redundancy=measured.redundancy_back,
        doubtful=result.doubtful,
    )


def against(
    prediction: Prediction, *, lost: int | None, outage: float | None, redundancy: float | None, doubtful: str = ""
) -> Comparison:
    """A prediction against figures.

    Args:
        prediction: What was expected.
        lost: Requests that were lost; None: nobody knows.
        outage: Seconds of the longest outage; None: nobody knows.
        redundancy: Seconds until redundancy was back; None: it never was.
        doubtful: What of these is not the doing of the cluster; then nothing counts as beyond what was expected.
    """
    if doubtful:
        return Comparison(prediction, lost, None, outage, None, redundancy, None, doubtful)
    return Comparison(
        prediction=prediction,
        lost=lost,
        unexplained=None if lost is None or prediction.lost_most is None else max(0, lost - prediction.lost_most),
        outage=outage,
        outage_beyond=_beyond(outage, 0.0, prediction.outage_most),  # a shorter one is no surprise
        redundancy=redundancy,
        redundancy_beyond=_beyond(redundancy, prediction.redundancy_least or 0.0, prediction.redundancy_most),
    )


def lost_in_all(result: Result) -> int | None:
    """All requests that were lost from the fault to the end of the observation, in the window or not."""
    in_flight, others = result.measurement.in_flight, result.measurement.lost_beyond_in_flight
    return None if in_flight is None or others is None else in_flight + others


def _beyond(seen: float | None, least: float, most: float | None) -> float | None:
    """By how much a figure is beyond a range, less than 0 below it; 0.0 within it."""
    if seen is None:
        return None
    if most is not None and seen > most:
        return seen - most
    if seen < least:
        return seen - least
    return None if most is None else 0.0
