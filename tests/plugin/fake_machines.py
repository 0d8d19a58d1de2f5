"""A fake cluster with machines under its nodes, as on Kubernetes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Literal

from pytest_serve_chaos import clock
from pytest_serve_chaos.cluster.base import ClusterSpec
from pytest_serve_chaos.cluster.capabilities import (
    DELETES_MACHINES,
    DRAINS_MACHINES,
    FREEZES_MACHINES,
    KILLS_MACHINES,
    REMEMBERS_CONNECTIONS,
    Offer,
)
from pytest_serve_chaos.model import Evidence
from tests.plugin.fake import FakeBehaviour, FakeCluster

COLLECTED_AFTER = 0.5
"""Seconds until the pods of a deleted node are gone."""


class FakeMachineCluster(FakeCluster):
    """Implements the capabilities on machines.

    Attributes:
        asked: What was asked of it, in order: ``kill worker-1``, ``revive worker-1``.
        forgot: How many times it was to forget the connections that nobody answered.
    """

    def __init__(self, spec: ClusterSpec, behaviour: FakeBehaviour | None = None) -> None:
        super().__init__(spec, behaviour)
        self.asked: list[str] = []
        self.forgot = 0

    def offers(self) -> tuple[Offer, ...]:
        """What it can do."""
        return (
            *super().offers(),
            DELETES_MACHINES.by(self),
            DRAINS_MACHINES.by(self),
            FREEZES_MACHINES.by(self),
            KILLS_MACHINES.by(self),
            REMEMBERS_CONNECTIONS.by(self),
        )

    def kill_machine(self, name: str, *, how: Literal["kill", "stop"]) -> Sequence[Evidence]:
        """Takes all that is on it down."""
        self.asked.append(f"{how} {name}")
        return self.kill_node(name, how=how, hold=True)

    def revive_machine(self, name: str) -> None:
        """It may come back."""
        self._back("revive", name)

    def forget_connections(self) -> None:
        """Counts it."""
        self.forgot += 1

    def freeze_machine(self, name: str) -> Sequence[Evidence]:
        """Stops all that is on it."""
        self.asked.append(f"freeze {name}")
        return self.freeze_node(name)

    def thaw_machine(self, name: str) -> None:
        """Lets it go on."""
        self.asked.append(f"thaw {name}")
        self.thaw_node(name)

    def delete_machine(self, name: str, *, within: float) -> Sequence[Evidence]:
        """Nothing happens, until its pods are collected."""
        self.asked.append(f"delete {name}")
        time.sleep(min(within, COLLECTED_AFTER))
        return self.kill_node(name, how="kill", hold=True) if within >= COLLECTED_AFTER else ()

    def register_machine(self, name: str) -> None:
        """It may come back."""
        self._back("register", name)

    def drain_machine(self, name: str) -> Sequence[Evidence]:
        """Takes all that is on it down."""
        self.asked.append(f"drain {name}")
        if not self.kill_node(name, how="stop", hold=True):
            return ()
        return (Evidence(clock.now(), "victim", f"the pods of {name} have ended"),)

    def reopen_machine(self, name: str) -> None:
        """It may come back."""
        self._back("reopen", name)

    def _back(self, verb: str, name: str) -> None:
        self.asked.append(f"{verb} {name}")
        self.restore_node(name)
