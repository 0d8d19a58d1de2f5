"""A drained node of somebody's cluster is opened again at the latest when the cluster is given back."""

from __future__ import annotations

import pytest

from pytest_serve_chaos.cluster.kuberay import borrowed as module
from pytest_serve_chaos.errors import CommandFailed, WaitTimeout
from pytest_serve_chaos.model import Json
from tests.unit.borrowed_services import borrowed
from tests.unit.test_kuberay_pods import FakeApi, pod


class Nodes(FakeApi):
    """A node whose pods a disruption budget keeps, and an API server that refuses some patches of it.

    Attributes:
        refuses: How many times the node is not opened.
        cordoned: Whether the node is.
    """

    namespace = "ml"

    def __init__(self, refuses: int) -> None:
        super().__init__(pod("w", "worker", "10.0.0.2"))
        self.refuses = refuses
        self.cordoned = False
        self.closed = False

    def call(self, method: str, name: str, *arguments: object, what: str) -> dict[str, Json]:
        if method == "create_namespaced_pod_eviction":
            raise CommandFailed("disruption budget")
        if method == "patch_node":
            wanted = arguments[0] == {"spec": {"unschedulable": True}}
            if not wanted and self.refuses:
                self.refuses -= 1
                raise CommandFailed(f"{what}: refused")
            self.cordoned = wanted
        return {"spec": {}}

    def close(self) -> None:
        self.closed = True


def test_a_node_that_could_not_be_opened_when_it_was_healed_is_opened_at_the_end() -> None:
    api = Nodes(refuses=1)
    cluster = borrowed(api=api, allow=["node"])
    with pytest.raises(CommandFailed, match="disruption budget"):
        cluster.drain_machine("worker-1")
    with pytest.raises(CommandFailed, match="refused"):
        cluster.reopen_machine("worker-1")
    assert api.cordoned
    cluster.close()
    assert (api.cordoned, api.closed) == (False, True)


def test_it_is_tried_again_and_then_said_loudly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_OPENED_WITHIN", 0.05)
    api = Nodes(refuses=1_000_000)
    cluster = borrowed(api=api, allow=["node"])
    with pytest.raises(CommandFailed, match="disruption budget"):
        cluster.drain_machine("worker-1")
    with pytest.raises(
        WaitTimeout, match=r"the cordon of kind-worker to be taken away; last seen: .*: refused"
    ) as late:
        cluster.close()
    assert "serve-chaos undo" in late.value.mend[0]
    assert (api.refuses < 1_000_000 - 1, api.closed) == (True, True)


def test_what_was_healed_is_left_alone_at_the_end() -> None:
    api = Nodes(refuses=0)
    cluster = borrowed(api=api, allow=["node"])
    with pytest.raises(CommandFailed, match="disruption budget"):
        cluster.drain_machine("worker-1")
    cluster.reopen_machine("worker-1")
    api.cordoned = True  # by somebody else
    cluster.close()
    assert api.cordoned
