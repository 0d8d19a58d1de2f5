"""How one fault is healed: once, when a caller asks for it, and at the latest when it is due."""

from __future__ import annotations

import threading

from pytest_serve_chaos import clock
from pytest_serve_chaos.errors import in_one_line
from pytest_serve_chaos.events import FaultHealed, Note
from pytest_serve_chaos.faults.fault import Fault
from pytest_serve_chaos.history import ExperimentLog


class Healing:
    """Heals one fault. What was put back stays so, what could not be is tried again by the next call.

    Args:
        fault: What.
        log: Where it is written.

    Attributes:
        injection: The number of the injection.
        at: When it was healed, monotonic seconds; None: it is not yet.
        timer: Heals it when it is due; None: nothing does by itself.
    """

    def __init__(self, fault: Fault, log: ExperimentLog) -> None:
        self.injection = 0
        self.at: float | None = None
        self.timer: threading.Timer | None = None
        self._fault = fault
        self._log = log
        self._lock = threading.Lock()

    def heal(self) -> None:
        """Puts back what was broken."""
        with self._lock:
            if self.at is not None:
                return
            self._fault.heal()
            self.at = clock.now()
            self._log.add(FaultHealed(f"healed: {self._fault.text}", injection=self.injection))

    def begin_timer(self, due: float) -> None:
        """From now on it is healed by itself at that moment (monotonic seconds)."""
        self.timer = threading.Timer(max(0.0, due - clock.now()), self._heal_when_due)
        self.timer.daemon = True
        self.timer.start()

    def _heal_when_due(self) -> None:
        """In a thread of its own, where nobody would hear of an error: the next call tries again, and raises it."""
        try:
            self.heal()
        except Exception as error:
            self._log.add(Note(f"not healed yet: {in_one_line(error)}"))

    def close(self) -> None:
        """Ends the timer, and heals what is not healed yet."""
        if self.timer is not None:
            self.timer.cancel()
        self.heal()
