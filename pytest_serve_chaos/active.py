"""What the plugin does with ``--serve-chaos``, and does not load without it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Generator

import pytest

from pytest_serve_chaos import settings
from pytest_serve_chaos.errors import SettingsError
from pytest_serve_chaos.fixtures import SESSION
from pytest_serve_chaos.session import ChaosSession


def start(config: pytest.Config) -> None:
    """Begins what lives as long as the run.

    Raises:
        pytest.UsageError: A setting cannot be used, or pytest-xdist distributes the tests.
    """
    _refuse_xdist(config)
    try:
        session = ChaosSession(config, settings.resolve(config))
    except SettingsError as error:
        raise pytest.UsageError(str(error)) from error
    _end_in_order_when_terminated(config)
    config.stash[SESSION] = session
    config.pluginmanager.register(session, "serve_chaos_session")
    config.pluginmanager.register(_CollectsTheGuide(session), "serve_chaos_guide")


class _CollectsTheGuide:
    """Where there is nothing to collect, the suite is collected."""

    def __init__(self, ours: ChaosSession) -> None:
        self._ours = ours

    @pytest.hookimpl(wrapper=True)
    def pytest_collection(self, session: pytest.Session) -> Generator[None, object, object]:
        result = yield
        config = session.config
        if self._ours.collected == 0 and not session.testsfailed and not _names_tests(config):
            self._ours.say("no tests here, so this runs the guide: pytest_serve_chaos.suite")
            config.option.pyargs = True
            session.perform_collect(["pytest_serve_chaos.suite"])
        return result


def _names_tests(config: pytest.Config) -> bool:
    """Whether the command line says which tests to run."""
    return config.args_source == pytest.Config.ArgsSource.ARGS


def _end_in_order_when_terminated(config: pytest.Config) -> None:
    """SIGTERM, with which CI systems and `timeout` end a run, becomes Ctrl-C: else a kind cluster would stay."""
    in_main_thread = threading.current_thread() is threading.main_thread()
    if in_main_thread and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        config.add_cleanup(_end_at_once_when_terminated)


def _end_at_once_when_terminated() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _refuse_xdist(config: pytest.Config) -> None:
    distributes = getattr(config.option, "dist", "no") != "no" and getattr(config.option, "tx", None)
    if distributes or hasattr(config, "workerinput"):
        raise pytest.UsageError(
            "--serve-chaos does not run under pytest-xdist: chaos tests share one cluster, and two at a time would"
            " break it under each other.\nRun them apart: pytest -n auto, where they are skipped, and then"
            " pytest --serve-chaos -n 0 with the files that they are in"
        )
