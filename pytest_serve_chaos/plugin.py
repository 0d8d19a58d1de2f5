"""What pytest loads in every run: names of options, markers and fixtures. All else waits for ``--serve-chaos``."""

from __future__ import annotations

import pytest

from pytest_serve_chaos import names
from pytest_serve_chaos.fixtures import OFF, chaos, experiment, serve_cluster, traffic, wants_cluster
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
    if config.getoption("serve_chaos"):
        from pytest_serve_chaos import active

        active.start(config)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Without ``--serve-chaos``, skips the tests that use our fixtures."""
    if config.getoption("serve_chaos"):
        return
    for item in items:
        if wants_cluster(item):
            item.add_marker(pytest.mark.skip(reason=OFF))
