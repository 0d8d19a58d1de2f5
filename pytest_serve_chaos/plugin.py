"""What pytest loads in every run: names of options, markers and fixtures. All else waits for ``--serve-chaos``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_serve_chaos import hookspecs, names
from pytest_serve_chaos.fixtures import OFF, chaos, experiment, serve_cluster, traffic, wants_cluster
from pytest_serve_chaos.fixtures import _serve_chaos_rig as _serve_chaos_rig

if TYPE_CHECKING:
    from collections.abc import Generator

    from pytest_serve_chaos.backends.registry import Backends

__all__ = ["chaos", "experiment", "serve_cluster", "traffic"]


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    """Adds our hooks, ``--serve-chaos`` and the settings; their texts only for those who read them."""
    pluginmanager.add_hookspecs(hookspecs)
    # pytest has looked for --help wherever it may stand, unless the plugin was handed to it before it looked.
    known = getattr(pluginmanager.get_plugin("pytestconfig"), "known_args_namespace", None)
    if known is None or known.help:
        from pytest_serve_chaos.backends.registry import BUILT_IN

        BUILT_IN.add_options(parser)
    else:
        names.add_options(parser)
    # Of the plugins that are loaded already, and of each that comes later.
    pluginmanager.hook.pytest_serve_chaos_backends.call_historic(result_callback=_OptionsOfOthers(parser).add)


class _OptionsOfOthers:
    """The options of backends that other plugins add. Where there are none, nothing is imported."""

    def __init__(self, parser: pytest.Parser) -> None:
        self._parser = parser
        self._backends: Backends | None = None

    def add(self, returned: object) -> None:
        """Adds those of one plugin."""
        from pytest_serve_chaos.backends.registry import BUILT_IN
        from pytest_serve_chaos.errors import SettingsError

        try:
            self._backends = (self._backends or BUILT_IN).and_those(returned, self._parser)
        except SettingsError as error:
            raise pytest.UsageError(str(error)) from error


@pytest.hookimpl(wrapper=True)
def pytest_load_initial_conftests(
    early_config: pytest.Config, parser: pytest.Parser, args: list[str]
) -> Generator[None, object, object]:
    """Refuses misspelt options, once conftest files have added theirs."""
    result = yield
    if any(word.startswith("--serve") for word in args) and not early_config.known_args_namespace.help:
        from pytest_serve_chaos import misspelt

        misspelt.refuse_misspelt(parser, args)
    return result


def pytest_configure(config: pytest.Config) -> None:
    """Registers the markers; with ``--serve-chaos`` also the part that does the work."""
    names.add_markers(config)
    if config.hook.pytest_serve_chaos_faults.get_hookimpls():
        from pytest_serve_chaos import active

        active.add_markers_of_plugins(config)
    if config.getoption("serve_chaos"):
        from pytest_serve_chaos import active

        active.start(config)
    elif any(word.startswith("--serve-chaos-") for word in config.invocation_params.args):
        # Perhaps --serve-chaos stands in the configuration that pytest has not read.
        from pytest_serve_chaos import rootdir

        rootdir.check_rootdir(config)


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Names what was set and has no effect: options without ``--serve-chaos``, variables that no setting has."""
    if config.getoption("serve_chaos"):
        from pytest_serve_chaos import active

        return active.without_effect(config)
    flags = {
        word.partition("=")[0]: None for word in config.invocation_params.args if word.startswith("--serve-chaos-")
    }
    return [f"serve-chaos: without --serve-chaos these have no effect: {', '.join(flags)}"] if flags else []


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Without ``--serve-chaos``, skips the tests that use our fixtures."""
    if config.getoption("serve_chaos"):
        return
    for item in items:
        if wants_cluster(item):
            item.add_marker(pytest.mark.skip(reason=OFF))
