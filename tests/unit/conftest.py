"""What several files of tests begin with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.unit.kind_runs import Api, Machines


@pytest.fixture
def machines() -> Machines:
    """The machines of a kind cluster, which only remember what was done to them."""
    from tests.unit.kind_runs import Machines

    return Machines()


@pytest.fixture
def api() -> Api:
    """The API of that cluster."""
    from tests.unit.kind_runs import Api

    return Api()
