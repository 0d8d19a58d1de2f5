"""What a check is: one demand, what it needs from the record of an experiment, and its judgement."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, TypeAlias, runtime_checkable

from pytest_serve_chaos.analysis.outages import is_exposed
from pytest_serve_chaos.analysis.record import Record
from pytest_serve_chaos.checks import window
from pytest_serve_chaos.model import Expectations, Measurement, Request


@dataclass(frozen=True, slots=True)
class Missed:
    """A demand was certainly not met: the verdict is failed.

    Attributes:
        reason: Why, as a sentence.
        whatever_the_load: Whether what was seen is wrong however busy the machine was: a wrong answer, for example, and
            not one that did not come in time. What a check demands of requests is decided by the requests.
    """

    reason: str
    whatever_the_load: bool = False


@dataclass(frozen=True, slots=True)
class Unknown:
    """The record does not show whether a demand was met: unless another one was missed, the verdict is inconclusive."""

    reason: str


Objection: TypeAlias = Missed | Unknown


@dataclass(frozen=True, slots=True)
class Observation:
    """What a check gets of one experiment.

    Attributes:
        record: Its events and requests.
        measurement: The figures that were computed from them.
        at_best: Whether all that may not be the app's fault counts as good. What is missed then is certainly missed.
        held_up: Whether it is `at_best` because others' work on the machine held the cluster up.
    """

    record: Record
    measurement: Measurement
    at_best: bool = False
    held_up: bool = False

    @property
    def expectations(self) -> Expectations:
        """What is demanded by keywords."""
        return self.record.expectations

    @property
    def requests(self) -> tuple[Request, ...]:
        """The requests on fresh connections that were scheduled in the window, or in flight when the fault came."""
        asked = self.record.asked
        if asked is None:
            return ()
        until = asked + self.expectations.window
        return tuple(r for r in self.record.fresh if is_exposed(r, asked) and r.scheduled <= until)

    @property
    def steady_requests(self) -> tuple[Request, ...]:
        """The requests on fresh connections that were answered in steady state, before the fault."""
        return self.record.steady.requests

    def missing_requests(self) -> tuple[str, ...]:
        """Why the requests do not show what happened in the window: there are none, or not in all of it."""
        found = window.none_sent(self.record, self.measurement)
        return (*found, *window.doubts(self.record, self.measurement))


@runtime_checkable
class Check(Protocol):
    """One demand on an experiment.

    A dataclass with plain fields can be made again from a history, so that `serve-chaos analyse` judges by it too.
    """

    @property
    def name(self) -> str:
        """What it is called in reports."""
        ...

    @property
    def on_requests(self) -> bool:
        """Whether it demands something of the requests; an experiment without such a demand is measured, not passed."""
        ...

    def needs(self, seen: Observation) -> Iterable[str]:
        """What the record lacks for this judgement, a sentence each. If it lacks anything, `judge` is not asked."""
        ...

    def judge(self, seen: Observation) -> Iterable[Objection]:
        """What was missed, and what remains unknown; nothing if the demand was met."""
        ...
