"""KubeRay's part: a Serve without a controller gets its config (again), and no other Serve does."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from pytest_serve_chaos.cluster.rest import ACTOR_COMING_STATES, Dashboard
from pytest_serve_chaos.errors import CommandFailed, ObservationError, in_one_line
from pytest_serve_chaos.model import Json

_PERIOD = 0.5
_CONFIRM_AFTER = 2.0
"""KubeRay reconciles every 2 s. Serve's REST says "no applications" for any trouble with the controller, and a PUT then
makes a second one: so only the state API counts, and only when it says so twice, this many seconds apart."""


class Operator(threading.Thread):
    """Watches for the controller and submits the Serve config when there is none.

    Args:
        dashboard: Of the head.
        config: The config to submit; `replace` changes it.
        tell: Called with a line for people after each submission.
    """

    def __init__(self, dashboard: Dashboard, config: dict[str, Json], tell: Callable[[str], None]) -> None:
        super().__init__(name="serve-chaos-operator", daemon=True)
        self._dashboard = dashboard
        self._config = config
        self._tell = tell
        self._submitted = False
        self._failed_at: float | None = None
        self._missing_since: float | None = None
        self._error = ""
        self._stopped = threading.Event()

    def replace(self, config: dict[str, Json]) -> None:
        """From now on this is the config to submit."""
        self._config = config

    def stop(self) -> None:
        """Submits nothing any more."""
        self._stopped.set()

    def run(self) -> None:
        """Looks for the controller until stopped."""
        while not self._stopped.wait(_PERIOD):
            try:
                self.look(time.monotonic())
            except Exception as error:  # an odd answer must not end it: no Serve would get its config again
                self._missing_since = None
                self._say_once(in_one_line(error))

    def look(self, now: float) -> None:
        """Submits the config if there is no controller, or if there is one and no submission has succeeded yet."""
        try:
            states = {row.state for row in self._dashboard.actors(class_name="ServeController")}
        except ObservationError:
            self._missing_since = None  # nobody to ask is not "no controller"
            return
        if not states.isdisjoint(ACTOR_COMING_STATES):
            self._missing_since = None
            # A submission without an answer may have made the controller, and told it nothing.
            if self._failed_at is not None and "ALIVE" in states and now - self._failed_at >= _CONFIRM_AFTER:
                self._submit(now)
        elif self._missing_since is None:
            self._missing_since = now
            if not self._submitted:
                self._submit(now)
        elif now - self._missing_since >= _CONFIRM_AFTER:
            self._submit(now)
            self._missing_since = None

    def _submit(self, now: float) -> None:
        try:
            self._dashboard.put_serve(self._config)
        except CommandFailed as error:
            self._failed_at = now
            self._say_once(str(error))
        else:
            self._submitted, self._failed_at, self._error = True, None, ""
            self._tell("the Serve config was submitted, because there was no controller")

    def _say_once(self, error: str) -> None:
        if error != self._error:  # once for each reason
            self._error = error
            self._tell(error)
