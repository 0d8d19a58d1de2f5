"""Which machines were taken, and that each is given back."""

from __future__ import annotations

import pytest

from pytest_serve_chaos.cluster.kubernetes.rayservice.machine_faults import TakenMachines
from pytest_serve_chaos.errors import CommandFailed


def test_one_that_cannot_be_given_back_keeps_no_other() -> None:
    taken = TakenMachines()
    for name, machine in (("head", "n-1"), ("worker-1", "n-2"), ("worker-1", "n-3"), ("worker-2", "n-4")):
        taken.take("drain", name, machine)
    opened = []

    def undo(machine: str) -> None:
        if machine in ("n-1", "n-3"):
            raise CommandFailed(f"{machine} was refused")
        opened.append(machine)

    with pytest.raises(CommandFailed, match="n-1 was refused"):
        taken.give_all_back("drain", undo)
    assert opened == ["n-2", "n-4"]
    assert taken.left("drain") == ["n-1", "n-3"]
    taken.give_all_back("drain", opened.append)
    assert (opened, taken.left("drain")) == (["n-2", "n-4", "n-1", "n-3"], [])


def test_what_was_done_in_another_way_is_left_alone() -> None:
    taken = TakenMachines()
    taken.take("freeze", "worker-1", "n-1")
    taken.give_all_back("drain", lambda machine: pytest.fail(machine))
    assert taken.left("freeze") == ["n-1"]
