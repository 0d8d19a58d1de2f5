"""What the plugin does with ``--serve-chaos``, and does not load without it."""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest

from pytest_serve_chaos import settings, telemetry
from pytest_serve_chaos.backends.registry import backends_of
from pytest_serve_chaos.errors import MissingDependency, SettingsError
from pytest_serve_chaos.faults.catalogue import BUILT_IN
from pytest_serve_chaos.faults.registry import FaultRegistry
from pytest_serve_chaos.fixtures import SESSION
from pytest_serve_chaos.misspelt import misspelt_markers
from pytest_serve_chaos.report.registry import reporters_of
from pytest_serve_chaos.rootdir import check_rootdir
from pytest_serve_chaos.session.chaos_session import ChaosSession
from pytest_serve_chaos.termination import EndingSignals


def start(config: pytest.Config) -> None:
    """Begins what lives as long as the run.

    Raises:
        pytest.UsageError: A setting cannot be used or has moved pytest's root directory, what it needs is not
            installed, or pytest-xdist distributes the tests.
    """
    _refuse_xdist(config)
    check_rootdir(config)
    signals = EndingSignals()
    try:
        backends, reporters = backends_of(config.pluginmanager), reporters_of(config.pluginmanager)
        given = settings.resolve(config, backends=backends)
        if given.otel:
            telemetry.check()
        session = ChaosSession(config, given, known_faults(config), backends, reporters, signals)
    except (SettingsError, MissingDependency) as error:
        raise pytest.UsageError(str(error)) from error
    signals.install(config)
    config.stash[SESSION] = session
    session.register(config.pluginmanager)
    config.add_cleanup(session.end)  # should another plugin's end raise before ours is called
    config.pluginmanager.register(_CollectsTheGuide(session), "serve_chaos_guide")


def without_effect(config: pytest.Config) -> list[str]:
    """A line for each environment variable and each name after ``-m`` that resembles a known one and is not one."""
    variables = settings.misspelled(os.environ, backends_of(config.pluginmanager))
    markers = misspelt_markers(config.option.markexpr, config.getini("markers"))
    return [
        *(_no_effect(name, f"setting has that name. To fix this: write {meant}") for name, meant in variables),
        *(
            _no_effect(f"{name} after -m", f"marker has that name. To fix this: write {meant}")
            for name, meant in markers
        ),
    ]


def _no_effect(what: str, why: str) -> str:
    return f"serve-chaos: warning: {what} has no effect, because no {why}"


def known_faults(config: pytest.Config) -> FaultRegistry:
    """The faults of this package, and those of other plugins.

    Raises:
        SettingsError: A plugin gives something else, or a fault with the name of another.
    """
    given = config.hook.pytest_serve_chaos_faults()
    return BUILT_IN.with_those_of_plugins(fault for faults in given for fault in faults)


def add_markers_of_plugins(config: pytest.Config) -> None:
    """Makes the markers of other plugins' faults known to pytest, with and without ``--serve-chaos``.

    Raises:
        pytest.UsageError: A plugin gives something else, or a fault with the name of another.
    """
    try:
        faults = known_faults(config)
    except SettingsError as error:
        raise pytest.UsageError(str(error)) from error
    for fault in faults:
        if fault not in BUILT_IN.specs:
            config.addinivalue_line("markers", fault.marker)


class _CollectsTheGuide:
    """Where there is nothing to collect, the suite is collected."""

    def __init__(self, ours: ChaosSession) -> None:
        self._ours = ours

    @pytest.hookimpl(wrapper=True)
    def pytest_collection(self, session: pytest.Session) -> Generator[None, object, object]:
        result = yield
        config = session.config
        if self._ours.collection.count == 0 and not session.testsfailed and not _names_tests(config):
            self._ours.terminal.say("no tests here, so the plugin runs Ray's guide as tests: pytest_serve_chaos.suite")
            config.option.pyargs = True
            session.perform_collect(["pytest_serve_chaos.suite"])
        return result


def _names_tests(config: pytest.Config) -> bool:
    """Whether the command line says which tests to run."""
    return config.args_source == pytest.Config.ArgsSource.ARGS


def _refuse_xdist(config: pytest.Config) -> None:
    distributes = getattr(config.option, "dist", "no") != "no" and getattr(config.option, "tx", None)
    if distributes or hasattr(config, "workerinput"):
        raise pytest.UsageError(
            "--serve-chaos does not run under pytest-xdist: chaos tests share one cluster, and two at a time would"
            " disturb each other.\nRun them apart: pytest -n auto, where they are skipped, and then"
            " pytest --serve-chaos -n 0 with the files that they are in"
        )
