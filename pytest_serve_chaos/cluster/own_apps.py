"""The deployments of this package's own apps, without importing them: importing Ray takes seconds."""

from __future__ import annotations

from collections.abc import Mapping

from pytest_serve_chaos.model import Json

OWN_APPS = "pytest_serve_chaos.apps."

_DEPLOYMENTS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "sleepy_pid": {"SleepyPid": ("options",)},
    "composed": {"Parent": ("options",), "Child": ("options", "child_options")},
}
"""App -> deployment -> the args that have its options; a later one overrides those before it."""


def is_own(import_path: str) -> bool:
    """Whether it is an app of this package, as ``pytest_serve_chaos.apps.sleepy_pid:app``."""
    return import_path.startswith(OWN_APPS) and import_path.endswith(":app")


def deployments_of(app: Mapping[str, Json]) -> dict[str, Json] | None:
    """The deployments of an own app with their options, by the args that its config gives it; None if nobody knows.

    Args:
        app: The app as its Serve config has it.
    """
    module = str(app.get("import_path")).removeprefix(OWN_APPS).partition(":")[0]
    if module not in _DEPLOYMENTS:
        return None
    args = app.get("args")
    given = args if isinstance(args, dict) else {}
    found: dict[str, Json] = {}
    for name, places in _DEPLOYMENTS[module].items():
        options: dict[str, Json] = {}
        for place in places:
            own = given.get(place)
            options |= own if isinstance(own, dict) else {}
        found[name] = options
    return found
