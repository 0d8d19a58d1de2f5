"""How properties are tried, and where the undo journal is meanwhile."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.internal.conjecture import providers
from hypothesis.internal.constants_ast import Constants

# A property says nothing of how long it takes: on a busy machine one example may wait for the processor. The examples
# are the same in each run, so that what turns red is what was changed.
settings.register_profile("unhurried", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")


_STATES = itertools.count()


@pytest.fixture(autouse=True)
def state_of_this_test(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """The undo journal of a test is its own, and not that of whoever runs the tests."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.getbasetemp() / f"state-{next(_STATES)}"))


@pytest.fixture(scope="session", autouse=True)
def examples_do_not_depend_on_imports() -> Iterator[None]:
    """Hypothesis would also try constants of the modules that are imported so far, which tests run before decide."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(providers, "_get_local_constants", Constants)
        yield
