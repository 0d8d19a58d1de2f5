"""How many requests a second are sent: one rate or several stages, evenly spaced or by chance. Pure arithmetic."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from pytest_serve_chaos.clock import seconds as seconds_of
from pytest_serve_chaos.errors import SettingsError

Pattern: TypeAlias = Literal["constant", "poisson"]
"""How requests follow each other: evenly spaced, or independently of each other, as those of many users do."""

PATTERNS: tuple[Pattern, ...] = get_args(Pattern)

_STAGE = re.compile(r"\s*(?P<rate>[\d.]+(?:e-?\d+)?)\s*(?:/\s*s)?(?:\s+for\s+(?P<lasts>\S+))?\s*")

_SURE = 3.5
"""Standard deviations: fewer requests than that below the mean are sent in less than one of 4000 spans of time."""

_RARE = 5.0
"""A gap of (ln n + 5) mean spacings is the longest of n Poisson gaps in less than one of 150 cases."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Seconds in which one rate holds.

    Attributes:
        rate: Requests per second.
        lasts: Seconds; infinity for the last stage, whose rate goes on.

    Raises:
        SettingsError: The rate is not a number above zero, or it lasts no time.
    """

    rate: float
    lasts: float = math.inf

    def __post_init__(self) -> None:
        check_rate(self.rate, name="rate")
        if not self.lasts > 0:
            raise SettingsError(f"a stage of {self.lasts:g} s", fix=["give each stage some time: 20/s for 30s"])


@dataclass(frozen=True, slots=True)
class Schedule:
    """The rates of open-loop traffic, one stage after the other. The rate of the last stage goes on.

    All seconds count from when the stages begin. Before that, while there is no steady state yet, the rate of the first
    stage holds.

    Attributes:
        stages: At least one; the last lasts for ever.
        arrivals: How the requests of a stage follow each other.
        gap: How far two of them are apart at most, as a multiple of how far they are on average: of one kind of
            request that is sent in blocks, that is far.

    Raises:
        SettingsError: There is no stage, or no such pattern of arrivals.
    """

    stages: tuple[Stage, ...]
    arrivals: Pattern = "constant"
    gap: float = 1.0

    def __post_init__(self) -> None:
        if not self.stages or math.isfinite(self.stages[-1].lasts):
            raise SettingsError("a schedule whose last stage ends", fix=["make a schedule with `Schedule.of`"])
        if self.arrivals not in PATTERNS:
            raise SettingsError(f"arrivals={self.arrivals!r}", fix=[f"give one of {', '.join(PATTERNS)}"])

    @classmethod
    def of(cls, rate: float | str, arrivals: Pattern = "constant") -> Schedule:
        """The schedule that a user writes.

        Args:
            rate: Requests per second, or stages: ``"20/s for 30s, 100/s for 30s"``.
            arrivals: How the requests of a stage follow each other.

        Raises:
            SettingsError: It is not a rate, and not a list of stages.
        """
        if not isinstance(rate, str):
            return cls((Stage(rate),), arrivals)
        stages = [_stage(text, rate) for text in rate.split(",")]
        if any(math.isinf(stage.lasts) for stage in stages[:-1]):
            raise _not_stages(rate, "only the last stage may have no end")
        return cls((*stages[:-1], Stage(stages[-1].rate)), arrivals)

    def of_share(self, share: float, *, gap: float = 1.0) -> Schedule:
        """The schedule of that share (0 to 1) of the requests; `gap` as for `Schedule`."""
        return Schedule(tuple(Stage(stage.rate * share, stage.lasts) for stage in self.stages), self.arrivals, gap)

    @property
    def first(self) -> float:
        """The rate until steady state is reached, and of the first stage."""
        return self.stages[0].rate

    @property
    def most(self) -> float:
        """The highest rate."""
        return max(stage.rate for stage in self.stages)

    @property
    def even(self) -> bool:
        """Whether all requests are equally far apart."""
        return len(self.stages) == 1 and self.arrivals == "constant"

    def least(self, since: float = 0.0, lasting: float = math.inf) -> float:
        """The lowest rate in that span of time."""
        return min(rate for rate, _ in self._parts(since, lasting))

    def mean(self, lasting: float, since: float = 0.0) -> float:
        """How many requests are due in that many seconds, on average."""
        return sum(rate * lasts for rate, lasts in self._parts(since, lasting))

    def surely(self, lasting: float, since: float = 0.0) -> int:
        """How many requests are due in that many seconds at least; of Poisson arrivals all but certainly."""
        mean = self.mean(lasting, since)
        return int(mean + 1e-9) if self.arrivals == "constant" else max(0, math.floor(mean - _SURE * math.sqrt(mean)))

    def at_most(self, lasting: float) -> float:
        """How many requests are due in that many seconds at most, wherever these are; of Poisson arrivals nearly so."""
        mean = self.most * lasting
        return mean if self.arrivals == "constant" else mean + _SURE * math.sqrt(mean) + _SURE**2

    def seconds_for(self, requests: float, since: float = 0.0) -> float:
        """Seconds in which so many requests are due, of Poisson arrivals all but certainly."""
        if self.arrivals == "poisson":
            # The mean m for which m - 3.5 * sqrt(m) is as many.
            requests = ((_SURE + math.sqrt(_SURE**2 + 4 * requests)) / 2) ** 2
        took = 0.0
        for rate, lasts in self._parts(since, math.inf):
            if requests <= rate * lasts:
                break
            requests -= rate * lasts
            took += lasts
        return took + requests / rate

    def spacing(self, lasting: float, since: float = 0.0) -> float:
        """Seconds between two requests at most in that span of time; of Poisson arrivals all but certainly."""
        parts = self._parts(since, lasting)
        if self.arrivals == "constant":
            return max(self.gap / rate for rate, _ in parts)
        return max((self.gap - 1 + _RARE + math.log(max(1.0, rate * lasts))) / rate for rate, lasts in parts)

    @property
    def words(self) -> str:
        """For people: ``20 requests/s for 30 s, then 100 requests/s, Poisson``."""
        texts = [f"{s.rate:g} requests/s" + (f" for {s.lasts:g} s" if s.lasts < math.inf else "") for s in self.stages]
        return ", then ".join(texts) + (", Poisson arrivals" if self.arrivals == "poisson" else "")

    def __str__(self) -> str:
        """As a user writes it: ``20/s for 30s, 100/s``; `of` reads it."""
        texts = [f"{s.rate:.15g}/s" + (f" for {s.lasts:.15g}s" if s.lasts < math.inf else "") for s in self.stages]
        return ", ".join(texts)

    def _parts(self, since: float, lasting: float) -> Iterator[tuple[float, float]]:
        """The rates from that second on, each with the seconds that it holds in that span of time."""
        until, begins = max(0.0, since) + lasting, 0.0
        for stage in self.stages:
            ends = begins + stage.lasts
            if ends > since and (begins < until or begins <= since):
                yield stage.rate, min(ends, until) - max(begins, since)
            begins = ends


def check_rate(rate: float, *, name: str) -> None:
    """Refuses a rate that no schedule can have.

    Raises:
        SettingsError: It is not a number above zero.
    """
    if not (rate > 0 and math.isfinite(rate)):
        raise SettingsError(f"{name}: {rate!r} is not a rate", fix=["give the requests per second, above 0"])


def _stage(text: str, whole: str) -> Stage:
    match = _STAGE.fullmatch(text)
    if match is None:
        raise _not_stages(whole, f"{text.strip()!r} is not a stage")
    try:
        return Stage(float(match["rate"]), math.inf if match["lasts"] is None else seconds_of(match["lasts"]))
    except (ValueError, SettingsError) as error:
        raise _not_stages(whole, str(error)) from error


def _not_stages(text: str, why: str) -> SettingsError:
    return SettingsError(
        f"rate: {text!r} is not a list of stages", checked=[why], fix=["write it as '20/s for 30s, 100/s for 30s'"]
    )
