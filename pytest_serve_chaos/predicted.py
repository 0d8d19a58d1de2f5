"""What a fault is expected to cost, as it is computed before the fault: the record, for histories and reports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Figure: TypeAlias = Literal["outage", "redundancy"]
"""Which of two times a step is part of: until requests are answered again, or until redundancy is back."""


@dataclass(frozen=True, slots=True)
class PredictedStep:
    """One step of a recovery. The steps of a figure follow each other, so their seconds add up.

    Attributes:
        figure: The figure that it is part of.
        text: What happens, for people: ``Serve finds the proxy unhealthy``.
        least: Seconds that it takes at least.
        most: Seconds that it takes at most; None: nobody knows.
        setting: What decides that, with its value: ``RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S = 1``; "": no setting does.
        source: Where the rule stands, with the version: a module of Ray, a page of Kubernetes, or a measurement.
        decided: Seconds of these that grow with the setting, if it is one of Ray, Serve or Kubernetes that a user can
            change; None: it is not, or there is none.
    """

    figure: Figure
    text: str
    least: float
    most: float | None
    setting: str = ""
    source: str = ""
    decided: float | None = None


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a fault is expected to cost, by the topology and the settings just before it.

    It takes part in no verdict. Seconds count from the fault.

    Attributes:
        fault: The name of its marker.
        lost: Requests that are lost on average; None: nobody knows.
        lost_most: The requests that are lost at most in 99 of 100 cases; None: nobody knows.
        lost_why: How these come about, in words.
        outage_least: Seconds of the longest outage, at least; 0.0: there need not be one.
        outage_most: The same at most; None: nobody knows.
        redundancy_least: Seconds until redundancy is back, at least; None: nobody knows.
        redundancy_most: The same at most; None: nobody knows.
        steps: What has to happen, in order.
        dominant: The setting of Ray, Serve or Kubernetes that decides most of the time, with its value; "": none does.
        change: What another value of it would give, in words.
        unknown: What the prediction does not know, a sentence each.
        why_not: Why there is no prediction; "" if there is one.
    """

    fault: str
    lost: float | None = None
    lost_most: int | None = None
    lost_why: str = ""
    outage_least: float = 0.0
    outage_most: float | None = None
    redundancy_least: float | None = None
    redundancy_most: float | None = None
    steps: tuple[PredictedStep, ...] = ()
    dominant: str = ""
    change: str = ""
    unknown: tuple[str, ...] = ()
    why_not: str = ""
