"""When each request of an open-loop stream is due."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pytest_serve_chaos.errors import SettingsError


@dataclass(frozen=True, slots=True)
class Arrivals:
    """A schedule with constant spacing. Each due time is computed from its number, so that lateness never adds up.

    Attributes:
        start: When the first request is due, in monotonic seconds.
        rate: Requests per second.

    Raises:
        SettingsError: The rate is not above zero.
    """

    start: float
    rate: float

    def __post_init__(self) -> None:
        check_rate(self.rate, name="rate")

    def due(self, index: int) -> float:
        """When request `index` (from 0) is due, in monotonic seconds."""
        return self.start + index / self.rate

    def due_by(self, moment: float) -> int:
        """How many requests are due at `moment` or before it."""
        count = max(0, math.floor((moment - self.start) * self.rate) + 1)
        # The product above may be off by one rounding error, so `due` has the last word.
        while count > 0 and self.due(count - 1) > moment:
            count -= 1
        while self.due(count) <= moment:
            count += 1
        return count


def check_rate(rate: float, *, name: str) -> None:
    """Refuses a rate that no schedule can have.

    Raises:
        SettingsError: It is not a number above zero.
    """
    if not (rate > 0 and math.isfinite(rate)):
        raise SettingsError(f"{name}: {rate!r} is not a rate", fix=["give the requests per second, above 0"])
