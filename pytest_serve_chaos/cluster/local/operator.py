"""KubeRay's part: a Serve without a controller gets its config (again), and no other Serve does."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from pytest_serve_chaos.cluster.rest import ACTOR_COMING_STATES, Dashboard
from pytest_serve_chaos.errors import CommandFailed, ObservationError
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
        self._stopped = threading.Event()

    def replace(self, config: dict[str, Json]) -> None:
        """From now on this is the config to submit."""
        self._config = config

    def stop(self) -> None:
        """Submits nothing any more."""
        self._stopped.set()

    def run(self) -> None:
        """Looks for the controller until stopped."""
        missing_since: float | None = None
        while not self._stopped.wait(_PERIOD):
            try:
                missing = self._controller_is_missing()
            except ObservationError:
                missing_since = None  # nobody to ask is not "no controller"
                continue
            now = time.monotonic()
            if not missing:
                missing_since = None
            elif missing_since is None:
                missing_since = now
                if not self._submitted:
                    self._submit()
            elif now - missing_since >= _CONFIRM_AFTER:
                self._submit()
                missing_since = None

    def _controller_is_missing(self) -> bool:
        rows = self._dashboard.actors(class_name="ServeController")
        return not any(row.state in ACTOR_COMING_STATES for row in rows)

    def _submit(self) -> None:
        try:
            self._dashboard.put_serve(self._config)
        except CommandFailed as error:
            self._tell(f"the Serve config was not taken: {error}")
        else:
            self._submitted = True
            self._tell("the Serve config was submitted, because there was no controller")
