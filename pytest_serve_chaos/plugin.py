"""What pytest loads in every run: names of options, markers and fixtures. All else waits for ``--serve-chaos``."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from pytest_serve_chaos import names
from pytest_serve_chaos.fixtures import OFF, SESSION, chaos, experiment, serve_cluster, traffic, wants_cluster
from pytest_serve_chaos.fixtures import _serve_chaos_rig as _serve_chaos_rig

__all__ = ["chaos", "experiment", "serve_cluster", "traffic"]


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    """Adds ``--serve-chaos`` and the settings; their texts only for those who read them."""
    # pytest has looked for --help wherever it may stand, unless the plugin was handed to it before it looked.
    known = getattr(pluginmanager.get_plugin("pytestconfig"), "known_args_namespace", None)
    if known is None or known.help:
        from pytest_serve_chaos import options

        options.add_options(parser)
    else:
        names.add_options(parser)


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Adds the hooks for backends of others."""
    from pytest_serve_chaos import hookspecs

    pluginmanager.add_hookspecs(hookspecs)


def pytest_configure(config: pytest.Config) -> None:
    """Registers the markers; with ``--serve-chaos`` also the part that does the work."""
    names.add_markers(config)
    if not config.getoption("serve_chaos"):
        return
    _refuse_xdist(config)
    from pytest_serve_chaos import settings
    from pytest_serve_chaos.errors import SettingsError
    from pytest_serve_chaos.session import ChaosSession

    try:
        session = ChaosSession(config, settings.resolve(config))
    except SettingsError as error:
        raise pytest.UsageError(str(error)) from error
    config.stash[SESSION] = session
    config.pluginmanager.register(session, "serve_chaos_session")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Without ``--serve-chaos``, skips the tests that use our fixtures."""
    if config.getoption("serve_chaos"):
        return
    for item in items:
        if wants_cluster(item):
            item.add_marker(pytest.mark.skip(reason=OFF))


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Generator[None, object, object]:
    """With ``--serve-chaos`` and nothing to collect, collects the suite."""
    result = yield
    config = session.config
    ours = config.stash.get(SESSION, None)
    if ours is not None and ours.collected == 0 and not session.testsfailed and not _names_tests(config):
        ours.say("no tests here, so this runs the guide: pytest_serve_chaos.suite")
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
            " break it under each other.\nRun them apart: pytest -n auto, where they are skipped, and then"
            " pytest --serve-chaos -n 0 with the files that they are in"
        )
