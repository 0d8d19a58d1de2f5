"""A clock for tests in which something waits: the time passes at once."""

from __future__ import annotations


class QuickTime:
    """In place of the module ``time``: seconds pass when something sleeps, and a little whenever the time is read."""

    def __init__(self) -> None:
        self.at = 1000.0

    def monotonic(self) -> float:
        self.at += 0.001
        return self.at

    def sleep(self, seconds: float) -> None:
        self.at += seconds
